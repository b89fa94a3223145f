"""How the hub is reached, as it tells those who ask: base URL, the agents' listener, the pin.

Rules: `public_url` when it is set; else what the request itself used, which only its sender can
have chosen. A hub that serves leaves its address in the state directory for the command line, since
`serve` may have been told another host and port than the settings say. The pin is the fingerprint
that a token carries: the hub's own authority's, where that signed the listener's certificate.
Source: docs/reference/hub.rst.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hub import private_files
from hub.errors import SettingsError
from hub.settings import HubSettings

if TYPE_CHECKING:
    from starlette.requests import Request

    from hub.heartbeat.authority import Authority

FILE_NAME = "address"


class Addresses:
    """See the module."""

    def __init__(self, settings: HubSettings, authority: Authority) -> None:
        self._settings = settings
        self._file = settings.state_dir / FILE_NAME
        self._host = socket.gethostname() if settings.host in ("0.0.0.0", "::") else settings.host
        self.pin = authority.fingerprint if settings.tls_own_ca else None

    @property
    def agents_url(self) -> str | None:
        """Return where agents show their certificates; None: nowhere."""
        found = self._settings
        if found.agents_url is not None:
            return found.agents_url.rstrip("/")
        if found.agents_port is None:
            return None
        host = urlsplit(found.public_url).hostname if found.public_url else self._host
        return f"https://{_shown(host or '')}:{found.agents_port}"

    @property
    def public(self) -> str:
        """Return the base URL for whoever has no request: the command line."""
        found = self._settings
        if found.public_url:
            return found.public_url.rstrip("/")
        try:
            return private_files.read(self._file)
        except SettingsError:  # it does not serve now
            return self.at(found.port)

    def at(self, port: int) -> str:
        """Return the base URL of this hub's listener at a port."""
        found = self._settings
        scheme = "https" if found.tls_cert_file or found.tls_own_ca else "http"
        return f"{scheme}://{_shown(self._host)}:{port}"

    def note(self, port: int) -> None:
        """Let the command line know where this hub serves, until `forget`."""
        private_files.replace(self._file, self.at(port))

    def forget(self) -> None:
        """The hub serves no more."""
        self._file.unlink(missing_ok=True)

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
        return list(dict.fromkeys([*wanted, self._host, *local]))


def _shown(host: str) -> str:
    """Write a host as a URL has it."""
    return f"[{host}]" if ":" in host else host
