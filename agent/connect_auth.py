"""The address of one attempt: base URL, joined engine path, signed query.

Rules: the query is made anew for every attempt; it and the token behind it never reach a log.

Source: contract 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from agent.errors import LinkError
from wire.signature import signed_query

NAMESPACE = "/agents"
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True)
class ServerAddress:
    """Where the live link goes. `path` is the engine path, with both slashes."""

    host: str
    port: int
    is_tls: bool
    path: str

    @property
    def origin(self) -> str:
        """`https://host:port`, with brackets round an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"


def server_address(server_url: str, engine_path: str) -> ServerAddress:
    """Join `transport.path` to whatever path the server's URL has.

    Args:
        server_url: `https://host[:port][/prefix]`; a query, a fragment and a user are ignored.
        engine_path: `/socket.io` unless configured.

    Raises:
        LinkError: `bad_url`; the configuration should have refused it.
    """
    try:
        parts = urlsplit(server_url)
        port = parts.port
    except ValueError as error:
        raise LinkError("bad_url", "serverUrl is not a URL") from error
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname:
        raise LinkError("bad_url", "serverUrl must be http(s)://host[:port][/path]")
    segments = [part for part in (parts.path + "/" + engine_path).split("/") if part]
    return ServerAddress(
        host=parts.hostname,
        port=port or _PORTS[scheme],
        is_tls=scheme in ("https", "wss"),
        path="/" + "/".join([*segments, ""]),
    )


def signed_url(address: ServerAddress, client_id: str, token: str, stamp_ms: int) -> str:
    """Give the URL of one attempt, its query signed for `stamp_ms`."""
    return f"{address.origin}?{urlencode(signed_query(client_id, token, stamp_ms))}"
