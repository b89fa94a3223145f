"""How the hub is reached, as it tells those who ask: base URL, the agents' listener, the pin.

Rules: `public_url` when it is set; else what the request itself used, which only its sender can
have chosen. The pin is the fingerprint that a token carries: the hub's own authority's, where that
signed the listener's certificate.
Source: docs/reference/hub.rst.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hub.settings import HubSettings

if TYPE_CHECKING:
    from starlette.requests import Request

    from hub.heartbeat.authority import Authority


class Addresses:
    """See the module."""

    def __init__(self, settings: HubSettings, authority: Authority) -> None:
        self._settings = settings
        self.pin = authority.fingerprint if settings.tls_own_ca else None

    @property
    def agents_url(self) -> str | None:
        """Return where agents show their certificates; None: nowhere."""
        found = self._settings
        if found.agents_url is not None:
            return found.agents_url.rstrip("/")
        if found.agents_port is None:
            return None
        host = urlsplit(found.public_url).hostname if found.public_url else found.host
        shown = f"[{host}]" if host and ":" in host else host
        return f"https://{shown}:{found.agents_port}"

    @property
    def public(self) -> str:
        """Return the base URL for whoever has no request: the command line."""
        found = self._settings
        if found.public_url:
            return found.public_url.rstrip("/")
        scheme = "https" if found.tls_cert_file or found.tls_own_ca else "http"
        host = f"[{found.host}]" if ":" in found.host else found.host
        return f"{scheme}://{host}:{found.port}"

    def base(self, request: Request) -> str:
        """Return the base URL that a request came to."""
        if self._settings.public_url:
            return self._settings.public_url.rstrip("/")
        return str(request.base_url).rstrip("/")

    def names(self) -> list[str]:
        """Return the names that a listener's own certificate is for."""
        found = self._settings
        urls = [found.public_url, found.agents_url]
        hosts = [urlsplit(url).hostname for url in urls if url]
        local = ["localhost", "127.0.0.1", "::1"]
        wanted = [host for host in hosts if host]
        is_any = found.host in ("0.0.0.0", "::")
        wanted.append(socket.gethostname() if is_any else found.host)
        return list(dict.fromkeys([*wanted, *local]))
