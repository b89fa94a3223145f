"""What every page of one agent shows around itself, and the pages that have no family of their own.

Rules: a machine of another tenant is not there, for a page as for the API.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hub.agents import service
from hub.agents.models import Asset
from hub.console.access import may_see
from hub.console.rendering import page
from hub.requests import Caller, TheHub

router = APIRouter(prefix="/agents/{asset_id}", include_in_schema=False)


async def machine_of(hub: TheHub, caller: Caller, asset_id: str) -> Asset:
    """Return the machine that a page is about.

    Raises:
        NotFoundError: there is none for this caller.
    """
    return await hub.database.read(caller.scope, service.get_asset, asset_id)


async def tab(
    request: Request, hub: TheHub, caller: Caller, asset_id: str, template: str, **context: Any
) -> Response:
    """Render one tab of an agent's page; the template extends `agents/frame.html`."""
    machine = await machine_of(hub, caller, asset_id)
    path = request.url.path.removeprefix(f"/agents/{asset_id}")
    here = "/" + path.split("/")[1] if path else ""
    here = "/activity" if here == "/jobs" else here
    policy = context.pop("policy", None)
    return page(request, template, caller, machine=machine, tab=here, policy=policy, **context)


@router.get("/head")
async def head(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("agents.read")
) -> Response:
    """Render the header anew."""
    machine = await machine_of(hub, caller, asset_id)
    return page(request, "agents/head_again.html", caller, machine=machine)
