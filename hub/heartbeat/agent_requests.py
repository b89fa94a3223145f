"""What the agents' routes share: bodies of `wire`, strictly read, and who sends them.

Rules: a body is read up to its limit and no further; what FastAPI documents is made from the wire's
own structs; a route of an agent declares its action by `agent_may`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.authorize import ACTIONS
from hub.errors import BadRequestError, TooLargeError
from hub.heartbeat.identification import Known, Shown, audit_refusal, identify
from hub.requests import hub_of
from wire import bodies, limits, paths
from wire.bodies import AnyBody, Body
from wire.errors import WireError

T = TypeVar("T")
# Documents what a route takes; a client certificate instead of it is no matter of OpenAPI.
Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(auto_error=False, scheme_name="Agent", description="service account")),
]


def agent_may(action: str) -> Any:
    """Declare a route of agents; the value is what the request shows, not checked yet."""
    assert action in ACTIONS, action

    async def shown(request: Request, _bearer: Bearer = None) -> Shown:
        return hub_of(request).showing.read(request.scope)

    shown.action = action  # type: ignore[attr-defined]
    return Depends(shown)


async def as_agent(hub: Hub, shown: Shown, action: str, work: Callable[[Session, Known], T]) -> T:
    """Run a unit of work for the agent that a request shows; a refusal is audited.

    Raises:
        UnauthorizedError, ForbiddenError: why it may not.
    """

    def unit(session: Session) -> tuple[Known, T | None]:
        known = identify(session, shown)
        if known.refusal is not None:
            audit_refusal(session, known, action)
            return known, None
        return known, work(session, known)

    known, result = await hub.database.write(None, unit)
    if known.refusal is not None:
        raise known.refusal
    return result  # type: ignore[return-value]


async def read_body(
    request: Request, cls: type[AnyBody], limit: int = limits.MAX_BODY_BYTES
) -> AnyBody:
    """Read a body.

    Raises:
        TooLargeError: over the limit; BadRequestError: not its shape.
    """
    raw = await raw_body(request, limit)
    is_form = request.headers.get("content-type", "").startswith(paths.FORM)
    try:
        return bodies.decode_form(cls, raw) if is_form else bodies.decode(cls, raw, limit)
    except WireError as error:
        raise BadRequestError(error.detail) from error


async def raw_body(request: Request, limit: int) -> bytes:
    """Read a body's bytes.

    Raises:
        TooLargeError: over the limit.
    """
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > limit:
            raise TooLargeError(f"the body is over {limit} bytes")
    return bytes(found)


def answer(body: Body, status: int = 200) -> Response:
    """Write a body."""
    return Response(bodies.encode(body), status, media_type=paths.JSON)


def documented(
    asked: type[Body] | None, given: type[Body] | None, status: int = 200
) -> dict[str, Any]:
    """Return what OpenAPI says of a route that reads and writes bodies of `wire`."""
    said: dict[str, Any] = {"responses": {str(status): {"description": "done"}}}
    if given is not None:
        said["responses"][str(status)]["content"] = {paths.JSON: {"schema": schema(given)}}
    if asked is not None:
        said["requestBody"] = {
            "required": True,
            "content": {paths.JSON: {"schema": schema(asked)}},
        }
    return {"openapi_extra": said, "status_code": status}


def schema(cls: type[Body]) -> dict[str, Any]:
    """Return the JSON Schema of a body in one piece: OpenAPI has another place for parts."""
    made = msgspec.json.schema(cls, ref_template="{name}")
    parts = made["$defs"]
    inlined: dict[str, Any] = _inlined(parts[cls.__name__], parts)
    return inlined


def _inlined(value: Any, parts: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inlined(one, parts) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("$ref"), str):
        return _inlined(parts[value["$ref"]], parts)
    return {key: _inlined(one, parts) for key, one in value.items()}
