"""ASGI middleware that heeds `Idempotency-Key`, inside the border, where a body has been bounded.

Rules: only POSTs of people and their programs; a route that reads the header itself is left to it,
and so is one whose body the border has not bounded; who is not logged in, or may not do it, or not
any more, hears that from the route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request

from hub.assembly import Hub
from hub.authorize import Principal, authorize
from hub.borders import BOUND_THEMSELVES
from hub.errors import HubError
from hub.idempotency import service
from hub.idempotency.service import Answer, Claim
from hub.problems import problem
from hub.requests import PUBLIC, principal_of

HEADER = b"idempotency-key"
REPLAYED = (b"idempotency-replayed", b"true")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Idempotency:
    """See the module.

    Args:
        app: the application.
        hub: whose database and keyring.
        routers: where routes that read the header themselves are found.
    """

    def __init__(self, app: Any, hub: Hub, routers: list[APIRouter]) -> None:
        self._app = app
        self._hub = hub
        found = [route for route in _routes(routers) if "POST" in (route.methods or ())]
        self._others = [route.path_regex for route in found if _reads_key(route)]
        self._actions = [(route.path_regex, _actions(route)) for route in found]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self._key(scope)
        who = await _caller(scope) if key is not None else None
        if key is None or who is None or not self._may(who, scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        try:
            claim = service.claim_of(who, scope["path"], key, body)
            kept = await self._hub.database.write(None, service.make, claim)
        except HubError as error:
            await problem(error.status, error.code, error.detail)(scope, receive, send)
            return
        if kept is None:
            await self._first(claim, scope, _again(body, receive), send)
        else:
            await _replay(service.opened(kept, self._hub.keyring), send)

    def _key(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        if scope["path"].startswith(BOUND_THEMSELVES):
            return None
        if any(pattern.match(scope["path"]) for pattern in self._others):
            return None
        given = [value for name, value in scope["headers"] if name == HEADER]
        return given[0].decode("latin-1") if given else None

    def _may(self, who: Principal, path: str) -> bool:
        """Ask the role anew: it may have been lost since the answer was kept."""
        actions = next((found for regex, found in self._actions if regex.match(path)), [])
        try:
            for action in actions:
                authorize(who, action)
        except HubError:
            return False
        return True

    async def _first(self, claim: Claim, scope: Scope, receive: Receive, send: Send) -> None:
        recorder = _Recorder(send)
        try:
            await self._app(scope, receive, recorder.send)
        finally:
            await self._hub.database.write(
                None, service.settle, claim, recorder.answer, self._hub.keyring
            )


class _Recorder:
    """Passes an answer on and remembers it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._media_type: str | None = None
        self._body = bytearray()

    @property
    def answer(self) -> Answer:
        return Answer(self._status, self._media_type, bytes(self._body))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = dict(message.get("headers", ()))
            self._media_type = headers.get(b"content-type", b"").decode("latin-1") or None
        elif len(self._body) <= service.MAX_ANSWER_BYTES:
            self._body += message.get("body", b"")
        await self._send(message)


async def _replay(answer: Answer, send: Send) -> None:
    headers = [REPLAYED]
    if answer.media_type is not None:
        headers.append((b"content-type", answer.media_type.encode()))
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _caller(scope: Scope) -> Principal | None:
    try:
        return await principal_of(Request(scope))
    except HubError:
        return None


async def _whole(receive: Receive) -> bytes:
    found = bytearray()
    while True:
        message = await receive()
        found += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            return bytes(found)


def _again(body: bytes, receive: Receive) -> Receive:
    """Hand a body on that has been read."""
    whole: list[Message] = [{"type": "http.request", "body": body}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


def _routes(routers: list[APIRouter]) -> list[APIRoute]:
    return [route for one in routers for route in one.routes if isinstance(route, APIRoute)]


def _reads_key(route: APIRoute) -> bool:
    return any(
        param.alias.lower().encode() == HEADER
        for one in _dependants(route)
        for param in one.header_params
    )


def _actions(route: APIRoute) -> list[str]:
    found = (getattr(one.call, "action", PUBLIC) for one in _dependants(route))
    return [action for action in found if action != PUBLIC]


def _dependants(route: APIRoute) -> Iterator[Dependant]:
    waiting = [route.dependant]
    while waiting:
        yield (one := waiting.pop())
        waiting += one.dependencies
