"""The border of the application: what no route should have to meet is refused here.

Rules: the Host header names the hub by one of its own names, or by an address where it listens on
every address (a rebound name is never an address); paths and queries are UTF-8 without NUL; a body
is at most MAX_BYTES, and JSON that two parsers could read differently, or that no database stores,
is refused. Paths of BOUND_THEMSELVES have larger bodies and bound and read them by themselves.
Every answer forbids guessing of its type, answers of the API are not kept by caches.
Source: fault cases D; RFC 9110, section 7.2; RFC 7493.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from hub.errors import BadRequestError, HubError, TooLargeError
from hub.problems import problem
from wire import paths, strictjson

MAX_BYTES = 1024 * 1024
SOCKETS = "/socket.io"  # whose queries are judged as they stand
BOUND_THEMSELVES = (paths.HEARTBEAT, paths.ARTIFACTS, SOCKETS)
_DRESS = [(b"x-content-type-options", b"nosniff")]
_DRESS_API = [*_DRESS, (b"cache-control", b"no-store")]
_EVERYWHERE = ("0.0.0.0", "::", "")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Borders:
    """ASGI middleware, outermost.

    Args:
        app: the application.
        names: host names that are the hub's own.
        bound: the address that it listens on.
    """

    def __init__(self, app: Any, names: Callable[[], list[str]], bound: str) -> None:
        self._app = app
        self._names = names
        self._takes_addresses = bound in _EVERYWHERE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check_host(scope)
            if not scope["path"].startswith(SOCKETS):
                check_target(scope)
            if scope["type"] == "http" and not scope["path"].startswith(BOUND_THEMSELVES):
                receive = await _bounded(scope, receive)
        except HubError as error:
            await _refuse(scope, receive, send, error)
            return
        await self._app(scope, receive, _dressed(scope, send))

    def _check_host(self, scope: Scope) -> None:
        given = [value for name, value in scope["headers"] if name == b"host"]
        host = host_of(given[0]) if len(given) == 1 else None
        if host is None or not self._is_ours(host):
            raise BadRequestError("the hub has no such name: set `public_url`", code="bad_host")

    def _is_ours(self, host: str) -> bool:
        if host in self._names():
            return True
        return self._takes_addresses and _is_address(host)


def host_of(header: bytes) -> str | None:
    """Return the host of a Host header, lower case, without port and brackets; None: it is bad."""
    try:
        text = header.decode("ascii").lower()
    except UnicodeError:
        return None
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        is_good = bool(closed) and (not port or port[1:].isdigit())
    else:
        host, colon, port = text.partition(":")
        is_good = not colon or port.isdigit()
    return host.removesuffix(".") if is_good and host else None


def check_target(scope: Scope) -> None:
    """Refuse a path or a query that is not UTF-8, or has a NUL.

    Raises:
        BadRequestError.
    """
    check_text(scope.get("raw_path") or b"")
    check_text(scope["query_string"])


def check_text(raw: bytes) -> None:
    """Refuse a percent-encoded text that is not UTF-8, or has a NUL.

    Raises:
        BadRequestError.
    """
    plain = unquote_to_bytes(raw)
    try:
        plain.decode()
    except UnicodeError as error:
        raise BadRequestError("the request is not UTF-8") from error
    if b"\0" in plain:
        raise BadRequestError("the request has a NUL")


def check_json(raw: bytes) -> None:
    """Refuse JSON that is ambiguous or cannot be stored.

    Raises:
        BadRequestError.
    """
    try:
        value = strictjson.parse(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not strict JSON", code="bad_json") from error
    if b"\\u0000" in raw and "\\u0000" in json.dumps(value).replace("\\\\", ""):
        raise BadRequestError("a text in the body has a NUL", code="bad_json")


async def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Read a body of bounded size, look at it if it is JSON, and hand it on in one piece."""
    headers = dict(scope["headers"])
    body = await _read(headers.get(b"content-length", b""), receive)
    kind = headers.get(b"content-type", b"").lower()
    if body and b"json" in kind:
        check_json(body)
    elif kind.startswith(paths.FORM.encode()):
        check_text(body)
    whole: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body}]

    async def replay() -> MutableMapping[str, Any]:
        return whole.pop() if whole else await receive()

    return replay


async def _read(declared: bytes, receive: Receive) -> bytes:
    if declared.isdigit() and int(declared[:20]) > MAX_BYTES:
        raise TooLargeError(f"over {MAX_BYTES} bytes")
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(found)
        found += message.get("body", b"")
        if len(found) > MAX_BYTES:
            raise TooLargeError(f"over {MAX_BYTES} bytes")
        if not message.get("more_body"):
            return bytes(found)


async def _refuse(scope: Scope, receive: Receive, send: Send, error: HubError) -> None:
    if scope["type"] == "http":
        response = problem(error.status, error.code, error.detail)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)
        return
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        start = {"type": "websocket.http.response.start", "status": error.status, "headers": []}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close"})


def _dressed(scope: Scope, send: Send) -> Send:
    is_api = scope["path"].startswith("/api/")

    async def dressed(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            wanted = _DRESS_API if is_api else _DRESS
            message["headers"] = [*headers, *(one for one in wanted if one[0] not in present)]
        await send(message)

    return dressed


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
