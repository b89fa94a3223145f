"""Alerts: what is wrong now, what was, and where they are sent.

Rules: each form calls the API's own route function; the target is a secret and only its scheme is
shown.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from hub.alerts import api, service
from hub.console.access import may_see
from hub.console.forms import checked
from hub.console.rendering import page
from hub.errors import HubError
from hub.requests import Caller, TheHub

router = APIRouter(prefix="/alerts", include_in_schema=False)
SHOWN = 100


@router.get("")
async def alerts(
    request: Request,
    hub: TheHub,
    past: Annotated[bool, Query()] = False,
    caller: Caller = may_see("alerts.read"),
) -> Response:
    """Show what is wrong, or with `past` what was."""
    return await _page(request, hub, caller, past=past)


@router.get("/count")
async def count(request: Request, hub: TheHub, caller: Caller = may_see("alerts.read")) -> Response:
    """Count what nobody looks after yet: every page shows it."""
    found = await hub.database.read(caller.scope, service.count_open)
    return page(request, "alerts/count.html", caller, count=found)


@router.post("/{alert_id}/acknowledge")
async def acknowledge(
    hub: TheHub, alert_id: str, caller: Caller = may_see("alerts.acknowledge")
) -> Response:
    """Say that somebody looks after it."""
    await api.acknowledge_alert(hub, alert_id, caller)
    return RedirectResponse("/alerts", 303)


@router.post("/target")
async def target(
    request: Request,
    hub: TheHub,
    act: Annotated[str, Form(max_length=16)],
    url: Annotated[str, Form(max_length=2048)] = "",
    caller: Caller = may_see("alerts.write"),
) -> Response:
    """Set where alerts go, or try it."""
    try:
        if act == "test":
            await api.try_target(hub, caller=caller)
            return await _page(request, hub, caller, done="The message was taken.")
        await api.set_target(hub, checked(api.TargetIn, url=url or None), caller=caller)
    except HubError as fault:
        return await _page(request, hub, caller, fault=fault)
    return RedirectResponse("/alerts", 303)


async def _page(
    request: Request,
    hub: TheHub,
    caller: Caller,
    *,
    past: bool = False,
    fault: HubError | None = None,
    done: str = "",
) -> Response:
    states: Any = ["resolved"] if past else ["open", "acknowledged"]
    found = await api.list_alerts(hub, state=states, limit=SHOWN, caller=caller)
    where = await api.show_target(hub, caller=caller)
    return page(
        request,
        "alerts/page.html",
        caller,
        status=fault.status if fault else 200,
        items=found.items,
        past=past,
        target=where.url,
        fault=fault,
        done=done,
    )
