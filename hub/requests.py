"""What a route asks of its request: the hub, the caller, and whether the caller may.

Rules: a route declares its action by `caller: Caller = may("agents.read")`, and has no other way to
know who calls; tests read the action from the route table. A cookie counts for a request that
changes something only with an Origin of ours. Refusals are audited in the caller's tenant.
Source: fault cases B, D.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hub.assembly import Hub
from hub.audit import service as audit
from hub.authorize import ACTIONS, Principal, authorize
from hub.errors import ForbiddenError, HubError
from hub.operators import credentials

Caller = Principal
# Documents what a route takes; `principal_of` reads it.
Shown = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(auto_error=False, description="a session's or an API token's text")),
]
_SAFE = ("GET", "HEAD", "OPTIONS")
PUBLIC = "public"


def hub_of(request: Request) -> Hub:
    """Return the hub that serves a request."""
    hub: Hub = request.app.state.hub
    return hub


async def _the_hub(request: Request) -> Hub:
    """Say it on the loop: FastAPI would run a plain function in a thread, at every request."""
    return hub_of(request)


TheHub = Annotated[Hub, Depends(_the_hub)]


async def principal_of(request: Request) -> Principal | None:
    """Return who calls, or None."""
    hub = hub_of(request)
    text = _bearer(request)
    if text is None:
        text = request.cookies.get(credentials.COOKIE)
        if text is None:
            return None
        if request.method not in _SAFE:
            check_origin(hub, request)
    found = await hub.database.read(None, credentials.find_principal, text, address_of(request))
    request.state.principal = found
    if found is not None and found.credential_id is not None:
        hub.uses.note(found.credential_id)
    return found


def may(action: str) -> Any:
    """Declare a route's action: the caller is authorized, or the request ends here."""
    assert action in ACTIONS, action

    async def checked(request: Request, _shown: Shown = None) -> Principal:
        principal = await principal_of(request)
        try:
            return authorize(principal, action)
        except HubError as error:
            if principal is not None:
                await refused(hub_of(request), principal, action, error)
            raise

    checked.action = action  # type: ignore[attr-defined]
    return Depends(checked)


def public() -> Any:
    """Declare a route that anybody may call."""

    async def checked(request: Request) -> None:
        del request

    checked.action = PUBLIC  # type: ignore[attr-defined]
    return Depends(checked)


async def refused(hub: Hub, who: Principal, action: str, error: HubError, **detail: Any) -> None:
    """Audit a refusal in the caller's own tenant."""
    await hub.database.write(None, audit.record, who.tenant_id, who, action, error.code, **detail)


def address_of(request: Request) -> str | None:
    """Return the address of whoever calls; uvicorn has dealt with trusted proxies."""
    return request.client.host if request.client else None


def check_origin(hub: Hub, request: Request) -> None:
    """Refuse what a browser sends from another site's page.

    Raises:
        ForbiddenError: `bad_origin`.
    """
    if request.headers.get("origin") not in hub.origins:
        raise ForbiddenError("the request comes from another site", code="bad_origin")


def _bearer(request: Request) -> str | None:
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if kind.lower() == "bearer" else None


Checked = Callable[[Request], Awaitable[Principal]]
