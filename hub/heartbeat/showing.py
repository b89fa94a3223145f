"""What a request of an agent shows: bearer token, certificate, and on which listener.

Rules: a certificate comes from the TLS of our own listener (`extensions.tls`, ASGI) or from a proxy
that knows the secret of `proxy_secret_file`; whoever sends the proxy's headers without the secret
has sent nothing. A proxy that knows it stands where certificates are asked for, so a request
without one is one that lacks it.
Source: fault cases A (mTLS); packaging/nginx; ASGI TLS extension.
"""

from __future__ import annotations

import secrets
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.datastructures import Headers

from hub import private_files
from hub.errors import ForbiddenError, SettingsError
from hub.heartbeat import certificates
from hub.heartbeat.identification import Shown
from wire.problem import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hub.heartbeat.authority import Authority
    from hub.settings import HubSettings

SECRET_HEADER = "x-jackline-proxy-secret"
CERTIFICATE_HEADER = "x-jackline-client-certificate"
MAX_PEM_CHARS = 16 * 1024
MIN_SECRET_CHARS = 32


class Reader:
    """Reads what a request shows.

    Args:
        proxy_secret: None where no proxy is trusted with certificates.
        agents_url: where agents show certificates; None where there is no such listener.
    """

    def __init__(
        self, authority: Authority, proxy_secret: str | None, agents_url: str | None
    ) -> None:
        self._authority = authority
        self._proxy_secret = proxy_secret
        self.agents_url = agents_url

    def read(self, scope: Mapping[str, Any]) -> Shown:
        """Read an ASGI scope, of http or of a WebSocket."""
        headers = Headers(raw=scope["headers"])
        is_certified, der, fault = self._certificate(scope, headers)
        leaf = None
        if der is not None:
            try:
                leaf = certificates.read(der, self._authority)
            except ForbiddenError as error:
                fault = error
        client = scope.get("client")
        return Shown(
            bearer=bearer(headers),
            is_certified=is_certified,
            leaf=leaf,
            fault=fault,
            address=client[0] if client else None,
            agents_url=self.agents_url,
        )

    def _certificate(
        self, scope: Mapping[str, Any], headers: Headers
    ) -> tuple[bool, bytes | None, ForbiddenError | None]:
        tls = (scope.get("extensions") or {}).get("tls")
        if tls is not None and tls.get("asks_for_certificate"):
            chain = tls["client_cert_chain"]
            return True, ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None, None
        if not self._is_our_proxy(headers):
            return False, None, None
        escaped = headers.get(CERTIFICATE_HEADER, "")
        if not escaped:
            return True, None, None
        try:
            if len(escaped) > MAX_PEM_CHARS:
                raise ValueError
            return True, ssl.PEM_cert_to_DER_cert(unquote(escaped).strip()), None
        except ValueError:
            return True, None, ForbiddenError("no certificate", code=Code.CERT_UNKNOWN)

    def _is_our_proxy(self, headers: Headers) -> bool:
        said = headers.getlist(SECRET_HEADER)
        if self._proxy_secret is None or len(said) != 1:
            return False
        return secrets.compare_digest(said[0].encode(), self._proxy_secret.encode())


def read_proxy_secret(settings: HubSettings) -> str | None:
    """Return the secret that a trusted proxy shows; None where there is no such proxy.

    Raises:
        SettingsError: the file is missing, readable by others, or holds next to nothing.
    """
    if settings.proxy_secret_file is None:
        return None
    found = private_files.read(settings.proxy_secret_file).strip()
    if len(found) < MIN_SECRET_CHARS:
        raise SettingsError(
            f"proxy_secret_file: at least {MIN_SECRET_CHARS} characters: `openssl rand -hex 32`"
        )
    return found


def bearer(headers: Headers) -> str | None:
    """Return the bearer token of a request."""
    kind, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if kind.lower() == "bearer" and text else None
