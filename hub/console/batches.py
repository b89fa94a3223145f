"""One command on several machines: who is chosen and who is away, then a grid of how each is.

Rules: each form calls the API's own route function; the grid's state comes from the jobs, and is
read again when one of them moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.admin import api
from hub.agents.models import Asset
from hub.console.access import may_see
from hub.console.forms import checked
from hub.console.rendering import page
from hub.errors import HubError, NotFoundError
from hub.jobs.models import Job
from hub.jobs.states import OPEN
from hub.requests import Caller, TheHub

router = APIRouter(prefix="/batches", include_in_schema=False)
Chosen = Annotated[list[str], Query(min_length=1, max_length=api.MAX_MACHINES)]
Short = Annotated[str, Form(max_length=16)]


@router.get("/new")
async def new(
    request: Request, hub: TheHub, asset_id: Chosen, caller: Caller = may_see("admin.run")
) -> Response:
    """Show which machines are chosen, and ask for the command."""
    return await _form(request, hub, caller, asset_id)


@router.post("")
async def run(
    request: Request,
    hub: TheHub,
    asset_id: Annotated[list[str], Form(min_length=1, max_length=api.MAX_MACHINES)],
    command: Annotated[str, Form(max_length=65536)],
    timeout_sec: Short = "30",
    when_offline: Short = "queue",
    expires_in: Short = "86400",
    caller: Caller = may_see("admin.run"),
) -> Response:
    """Run a command on all of them."""
    try:
        body = checked(
            api.BatchIn,
            asset_ids=asset_id,
            command=command,
            timeout_sec=timeout_sec,
            when_offline=when_offline,
            expires_in=expires_in,
        )
        made = await api.run_on_many(hub, body, None, caller)
    except HubError as fault:
        return await _form(request, hub, caller, asset_id, fault)
    return RedirectResponse(f"/batches/{made.batch_id}", 303)


@router.get("/{batch_id}")
async def one(
    request: Request, hub: TheHub, batch_id: str, caller: Caller = may_see("jobs.read")
) -> Response:
    """Show how each machine is getting on."""
    rows = await hub.database.read(caller.scope, _jobs, batch_id)
    if not rows:
        raise NotFoundError("there is no such batch")
    states = Counter(job.state for job, _ in rows)
    open_ = sum(states[state] for state in OPEN)
    return page(
        request,
        "batches/one.html",
        caller,
        batch_id=batch_id,
        rows=rows,
        states=sorted(states.items()),
        command=rows[0][0].request.get("command", ""),
        done=len(rows) - open_,
        failed=len(rows) - open_ - states["succeeded"],
    )


@router.post("/{batch_id}/rerun")
async def again(hub: TheHub, batch_id: str, caller: Caller = may_see("admin.run")) -> Response:
    """Run once more what failed."""
    made = await api.run_again(hub, batch_id, caller)
    return RedirectResponse(f"/batches/{made.batch_id}", 303)


async def _form(
    request: Request,
    hub: TheHub,
    caller: Caller,
    asset_ids: Sequence[str],
    fault: HubError | None = None,
) -> Response:
    machines = await hub.database.read(caller.scope, _machines, asset_ids)
    if not machines:
        raise NotFoundError("there is no such machine")
    away = sum(machine.presence != "online" for machine in machines)
    return page(
        request,
        "batches/new.html",
        caller,
        status=fault.status if fault else 200,
        machines=machines,
        away=away,
        fault=fault,
    )


def _machines(session: Session, asset_ids: Sequence[str]) -> list[Asset]:
    found = select(Asset).where(Asset.id.in_(asset_ids), Asset.deleted_ms.is_(None))
    return list(session.scalars(found.order_by(Asset.name)))


def _jobs(session: Session, batch_id: str) -> list[tuple[Job, Any]]:
    found = (
        select(Job, Asset.name)
        .join(Asset, Asset.id == Job.asset_id)
        .where(Job.batch_id == batch_id)
        .order_by(Asset.name, Job.id)
    )
    return [(job, name) for job, name in session.execute(found)]
