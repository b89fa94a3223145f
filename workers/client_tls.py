"""Put a client certificate into a TLS context.

Rules: OpenSSL takes one from a file alone: it is given a file without a name (a memfd), or, where
there is none such, for a moment one that only we can read.

Source: memfd_create(2); ssl.SSLContext.load_cert_chain.
"""

from __future__ import annotations

import os
import ssl
import sys

from workers.errors import CertificateError


def load_client(context: ssl.SSLContext, certificate_pem: str, key_pem: str) -> None:
    """Let a TLS context show a client certificate.

    Raises:
        CertificateError: the two do not fit, or are none.
    """
    text = f"{key_pem.strip()}\n{certificate_pem.strip()}\n".encode()
    try:
        if sys.platform == "linux":
            _load_unnamed(context, text)
        else:
            _load_named(context, text)
    except (OSError, ssl.SSLError) as e:
        raise CertificateError("the client certificate cannot be used") from e


def _load_unnamed(context: ssl.SSLContext, text: bytes) -> None:
    if sys.platform == "linux":
        fd = os.memfd_create("client", os.MFD_CLOEXEC)
        try:
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.write(text)
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


def _load_named(context: ssl.SSLContext, text: bytes) -> None:
    import tempfile  # no light one, and nobody on Linux needs it

    fd, path = tempfile.mkstemp(prefix="jackline-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
