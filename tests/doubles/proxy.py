"""An HTTP proxy that asks for Basic authentication and remembers who asked for what.

It speaks CONNECT (TLS and WebSocket) and absolute-form requests (plain HTTP polling).
Source: RFC 9110 section 9.3.6 and 11.7; RFC 7617.
"""

from __future__ import annotations

import base64
import socket
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from tests.doubles.sockets import Listener, relay

HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class ProxyRequest:
    """One request's first line, and whether its credentials were right."""

    method: str
    target: str
    is_authorized: bool


class AuthProxy(Listener):
    """Listens on loopback until closed; `requests` lists every request head it was sent."""

    def __init__(self, user: str = "proxy-user", password: str = "proxy pass/word") -> None:
        self.user = user
        self.password = password
        self.requests: list[ProxyRequest] = []
        super().__init__()

    @property
    def url(self) -> str:
        """The proxy URL with its credentials, as HTTPS_PROXY wants it."""
        return f"http://{quote(self.user)}:{quote(self.password, safe='')}@127.0.0.1:{self.port}"

    @property
    def url_without_credentials(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tunnels(self) -> list[ProxyRequest]:
        """The requests that were let through."""
        return [request for request in self.requests if request.is_authorized]

    def serve(self, connection: socket.socket) -> None:
        while True:
            head, rest = _read_head(connection)
            if not head:
                return
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            request = ProxyRequest(method, target, self._is_authorized(head))
            self.requests.append(request)
            if request.is_authorized:
                break
            connection.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n"
                b'Proxy-Authenticate: Basic realm="test"\r\n\r\n'
            )
        if method == "CONNECT":
            upstream = self._dial(*target.rsplit(":", 1))
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            upstream.sendall(rest)
        else:
            url = urlsplit(target)
            upstream = self._dial(url.hostname or "", str(url.port or 80))
            upstream.sendall(head + b"\r\n\r\n" + rest)
        relay(connection, upstream)

    def _dial(self, host: str, port: str) -> socket.socket:
        upstream = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
        upstream.settimeout(None)
        self.keep(upstream)
        return upstream

    def _is_authorized(self, head: bytes) -> bool:
        token = base64.b64encode(f"{self.user}:{self.password}".encode())
        wanted = b"proxy-authorization: basic " + token
        # The scheme and the header's name ignore case, the token does not.
        return any(
            line[: -len(token)].lower() == wanted[: -len(token)] and line.endswith(token)
            for line in head.split(b"\r\n")[1:]
        )


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < HEAD_BYTES:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest
