"""The one thing that `ssl` cannot say: ask for a client certificate and take whatever comes.

Rules: the context's own `SSL_CTX` is told to go on after a certificate that it cannot verify; who
uses this checks the certificate itself. CPython keeps the pointer first in the object, behind the
object's header; before anything is changed, what OpenSSL says through the pointer is compared with
what `ssl` says, for two settings. Where that fails (another Python, a static build) nothing is
changed, and the answer is False.

Source: OpenSSL, SSL_CTX_set_verify(3): the handshake goes on when verify_callback returns 1;
CPython 3.11 to 3.14, Modules/_ssl.h, PySSLContext; nginx has it as `ssl_verify_client
optional_no_ca`.
"""

from __future__ import annotations

import ctypes
import ssl
from typing import Any

_PEER = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


_go_on = _CALLBACK(lambda _is_verified, _store: 1)
"""Kept for as long as the process: OpenSSL calls it from every handshake."""


def ask_for_any_certificate(context: ssl.SSLContext) -> bool:
    """Ask peers of a server for a certificate, and take any or none; tell whether that is so.

    When it is not, certificates are asked for and judged by what the context trusts.
    """
    library = _library()
    is_ours = library is not None and all(
        _mode(library, context, wanted) == said
        for wanted, said in ((ssl.CERT_NONE, 0), (ssl.CERT_REQUIRED, 3), (ssl.CERT_OPTIONAL, _PEER))
    )
    if not is_ours:
        context.verify_mode = ssl.CERT_OPTIONAL
        return False
    assert library is not None
    library.SSL_CTX_set_verify(_pointer(context), _PEER, _go_on)
    return True


def _library() -> Any:
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_get_verify_mode.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_set_verify.argtypes = [ctypes.c_void_p, ctypes.c_int, _CALLBACK]
        library.SSL_CTX_set_verify.restype = None
    except (ImportError, OSError, AttributeError):
        return None
    return library


def _mode(library: Any, context: ssl.SSLContext, wanted: ssl.VerifyMode) -> int:
    """Set a mode by `ssl`, and return what OpenSSL then says of our pointer."""
    context.verify_mode = wanted
    return int(library.SSL_CTX_get_verify_mode(_pointer(context)))


def _pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
