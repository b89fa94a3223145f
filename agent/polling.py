"""HTTP requests for the polling transport, over the same dialling as the WebSocket.

Rules: one kept connection per method, because the long GET and the POSTs run in two threads; no
redirect is followed; cookies are kept for this attempt alone (a load balancer's stickiness). A kept
connection that the server has closed is replaced before a request is written on it; a request is
never written twice. `http.client` is imported only when polling is needed.

Source: contract 1.1; Engine.IO protocol 4, "HTTP long-polling".
"""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.errors import LinkError

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

_MAX_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What Engine.IO's client reads of a response."""

    status_code: int
    content: bytes
    is_html: bool = False

    def json(self) -> Any:
        return json.loads(self.content)


class PollingSession:
    """The requests of one attempt.

    Args:
        dial: gives a connected socket, or raises LinkError.
    """

    def __init__(self, dial: Callable[[], socket.socket]) -> None:
        self._dial = dial
        self._kept: dict[str, HTTPConnection] = {}
        self._cookies: dict[str, str] = {}

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: str | None, timeout_s: float
    ) -> Answer:
        """Make one request.

        Args:
            method: GET or POST.
            url: absolute; only its path and query are sent.
            headers: in addition to Host and Cookie.
            body: text, sent as UTF-8.
            timeout_s: for each wait on the socket.

        Raises:
            LinkError: no answer, or one that is none.
        """
        from http.client import HTTPException

        parts = urlsplit(url)
        try:
            connection = self._connection(method, parts.netloc)
            assert connection.sock is not None
            connection.sock.settimeout(timeout_s)
            connection.request(
                method,
                f"{parts.path}?{parts.query}",
                body=body.encode() if body is not None else None,
                headers={**headers, **self._cookie_header()},
            )
            return self._answer(connection.getresponse())
        except TimeoutError as error:
            raise LinkError("timeout", "the server did not answer in time") from error
        except (OSError, ValueError, HTTPException) as error:
            sentence = f"the connection broke: {type(error).__name__}"
            raise LinkError("closed", sentence) from error

    def _connection(self, method: str, netloc: str) -> HTTPConnection:
        from http.client import HTTPConnection

        kept = self._kept.get(method)
        if kept is not None and kept.sock is not None and not _has_ended(kept.sock):
            return kept
        if kept is not None:
            kept.close()
        connection = HTTPConnection(netloc)
        connection.auto_open = 0  # never open one past the dialler
        connection.sock = self._dial()
        self._kept[method] = connection
        return connection

    def _answer(self, response: HTTPResponse) -> Answer:
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name.strip()] = value.strip()
        content = response.read(_MAX_ANSWER + 1)
        if len(content) > _MAX_ANSWER:
            raise LinkError("too_large", f"the server's answer is over {_MAX_ANSWER} bytes")
        kind = response.headers.get("Content-Type") or ""
        return Answer(response.status, content, "html" in kind.lower())

    def _cookie_header(self) -> dict[str, str]:
        if not self._cookies:
            return {}
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}


def _has_ended(sock: socket.socket) -> bool:
    """Has an idle connection become readable? Then its end is what there is to read."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))
