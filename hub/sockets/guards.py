"""What is refused before a socket exists: wrong transports, foreign origins, too many strangers.

Rules: nothing is read of a body here. A cookie with an Origin that is not ours is refused before
the upgrade; who shows no cookie shows a signature or a token later, and its Origin says nothing. At
most MAX_STRANGERS sockets of one address may be open without having joined a namespace; one more
gets in only with a good signature.

Source: fault cases D.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from hub.sockets.console import cookie
from hub.sockets.server import SocketServer

PATH = "/socket.io/"
MAX_STRANGERS = 64
RETRY_AFTER_S = "5"
Scope = MutableMapping[str, Any]


class SocketApp:
    """ASGI middleware: takes what is for `/socket.io`, before any route is looked at.

    Args:
        app: what everything else goes to.
        server: what sockets go to.
        origins: where browsers may come from.
        has_signature: tells whether a query is signed by an agent that we know.
    """

    def __init__(
        self,
        app: Any,
        server: SocketServer,
        origins: Callable[[], frozenset[str]],
        has_signature: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._app = app
        self._server = server
        self._origins = origins
        self._has_signature = has_signature

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(PATH):
            await self._app(scope, receive, send)
            return
        status = await self._refusal(scope)
        if status is None:
            await self._server.eio.handle_request(scope, receive, send)
        else:
            await _answer(scope, receive, send, status)

    async def _refusal(self, scope: Scope) -> int | None:
        try:
            query = scope["query_string"].decode("ascii")
            headers = {name.lower(): value.decode("ascii") for name, value in scope["headers"]}
        except UnicodeError:
            return 400
        if _is_wrong(parse_qs(query), scope["type"], self._server.eio.transports):
            return 400
        origin = headers.get(b"origin")
        shows_cookie = cookie(headers.get(b"cookie", "")) is not None
        if origin is not None and shows_cookie and origin not in self._origins():
            return 403
        if "sid=" not in query and self._is_crowded(scope) and not await self._has_signature(query):
            return 429
        return None

    def _is_crowded(self, scope: Scope) -> bool:
        address = str(scope["client"][0]) if scope.get("client") else ""
        return self._server.eio.strangers[address] >= MAX_STRANGERS


def _is_wrong(query: dict[str, list[str]], kind: str, transports: list[str]) -> bool:
    """Tell what is no way to come here at all; the engine would log it, or answer late."""
    transport = query.get("transport", ["polling"])
    if "j" in query or len(transport) != 1 or transport[0] not in transports:
        return True
    if "sid" not in query and query.get("EIO") != ["4"]:
        return True
    return kind == "websocket" and transport != ["websocket"]


async def _answer(scope: Scope, receive: Any, send: Any, status: int) -> None:
    prefix = "http.response"
    if scope["type"] == "websocket":
        await receive()
        prefix = "websocket.http.response"
    headers = [(b"content-type", b"text/plain"), (b"retry-after", RETRY_AFTER_S.encode())]
    await send(
        {"type": f"{prefix}.start", "status": status, "headers": headers[: 1 + (status == 429)]}
    )
    await send({"type": f"{prefix}.body", "body": b""})
