"""The audit log: a tenant's, and what of it is about one machine."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from hub.audit import api
from hub.console.access import may_see
from hub.console.one_agent import tab
from hub.console.rendering import page
from hub.requests import Caller, TheHub

router = APIRouter(include_in_schema=False)
Word = Annotated[str, Query(max_length=256)]
SHOWN = 50


@router.get("/audit")
async def audit(
    request: Request,
    hub: TheHub,
    action: Word = "",
    actor: Word = "",
    outcome: Word = "",
    cursor: Annotated[str, Query(max_length=1024)] = "",
    caller: Caller = may_see("audit.read"),
) -> Response:
    """Show the tenant's chain, newest first."""
    asked = {"action": action, "actor": actor, "outcome": outcome}
    found = await api.list_audit(
        hub,
        action=action or None,
        actor=actor or None,
        outcome=outcome or None,
        limit=SHOWN,
        cursor=cursor or None,
        caller=caller,
    )
    head = await api.head(hub, caller=caller)
    older = urlencode({**{k: v for k, v in asked.items() if v}, "cursor": found.next or ""})
    return page(
        request,
        "audit/page.html",
        caller,
        items=found.items,
        head=head,
        query=asked,
        older=f"/audit?{older}" if found.next else None,
    )


@router.get("/agents/{asset_id}/audit")
async def of_machine(
    request: Request,
    hub: TheHub,
    asset_id: str,
    cursor: Annotated[str, Query(max_length=1024)] = "",
    caller: Caller = may_see("audit.read"),
) -> Response:
    """Show what the log says of one machine."""
    found = await api.list_audit(
        hub, object_id=asset_id, limit=SHOWN, cursor=cursor or None, caller=caller
    )
    older = f"?{urlencode({'cursor': found.next})}" if found.next else None
    return await tab(
        request, hub, caller, asset_id, "audit/machine.html", items=found.items, older=older
    )
