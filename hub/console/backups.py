"""Backups of a machine: how they stand, one of them from plan to restore, and when they run.

Rules: each form calls the API's own route function; what is under way is asked again when the
socket says that it has moved, so that a reload shows the same. A look into a copy is a job, and
stays in the page's address.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from hub.admin.requests import Timing
from hub.agents import service as agents
from hub.assembly import Hub
from hub.backup import api, plans, requests
from hub.backup.standing import hero
from hub.backup.views import SchedulesOut, Seen
from hub.console.access import may_see
from hub.console.forms import checked
from hub.console.one_agent import tab
from hub.errors import ConflictError, NotFoundError
from hub.jobs import service as jobs_service
from hub.jobs.models import Job
from hub.requests import Caller, TheHub

router = APIRouter(prefix="/agents/{asset_id}/backups", include_in_schema=False)
Text = Annotated[str, Form(max_length=65536)]
Short = Annotated[str, Form(max_length=4096)]


@router.get("")
async def overview(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("backup.read")
) -> Response:
    """Show all backups of a machine in one sentence, then each of them."""

    def unit(session: Session) -> tuple[list[Seen], SchedulesOut]:
        asset = agents.get_asset(session, asset_id)
        timetable = SchedulesOut.of(plans.schedules_of(session, asset.id))
        return api.seen(session, hub, asset_id), timetable

    items, timetable = await hub.database.read(caller.scope, unit)
    items.sort(key=lambda one: not one.standing.is_wrong)
    return await tab(
        request, hub, caller, asset_id, "backups/list.html",
        items=items, hero=hero([one.standing for one in items]), timetable=timetable,
    )  # fmt: skip


@router.post("")
async def describe(
    hub: TheHub,
    asset_id: str,
    source_dirs: Text,
    dest_root: Short,
    name: Short = "",
    host: Short = "",
    user: Short = "",
    port: Short = "",
    ignore_globs: Text = "",
    layout: Short = "",
    caller: Caller = may_see("backup.plan"),
) -> Response:
    """Describe a backup; the machine is asked for a plan."""
    given = {
        "name": name, "dest_root": dest_root, "host": host, "user": user, "port": port,
        "layout": layout, "source_dirs": _lines(source_dirs), "ignore_globs": _lines(ignore_globs),
    }  # fmt: skip
    said = {key: value for key, value in given.items() if value}
    body = checked(requests.PlanIn, **said)
    made = await api.add_backup(hub, asset_id, body, None, caller)
    return _to(asset_id, made.id)


@router.post("/schedules")
async def schedule(
    hub: TheHub,
    asset_id: str,
    plan_id: Short,
    cron: Short,
    tz: Short = "UTC",
    schedule_id: Short = "",
    caller: Caller = may_see("backup.run"),
) -> Response:
    """Add a schedule to those that the machine has told."""
    known = await _told(hub, caller, asset_id)
    name = schedule_id or f"{plan_id[-6:]}-{len(known) + 1}"
    added = {"id": name, "plan_id": plan_id, "cron": cron, "tz": tz}
    return await _set(hub, caller, asset_id, [*(s for s in known if s["id"] != name), added])


@router.post("/schedules/remove")
async def unschedule(
    hub: TheHub, asset_id: str, schedule_id: Short, caller: Caller = may_see("backup.run")
) -> Response:
    """Take a schedule away."""
    known = await _told(hub, caller, asset_id)
    return await _set(hub, caller, asset_id, [s for s in known if s["id"] != schedule_id])


@router.post("/schedules/read")
async def read_schedules(
    hub: TheHub, asset_id: str, caller: Caller = may_see("backup.plan")
) -> Response:
    """Ask the machine what it runs by itself."""
    await api.read_schedules(hub, asset_id, Timing(), None, caller)
    return _to(asset_id)


@router.get("/{plan_id}")
async def one(
    request: Request,
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    look: Annotated[str, Query(max_length=64)] = "",
    caller: Caller = may_see("backup.read"),
) -> Response:
    """Show one backup: what it copies, how far it is, what it has copied, and the way back."""

    def unit(session: Session) -> tuple[Seen, list[Job], Job | None, bool]:
        found = api.seen(session, hub, asset_id, plan_id)
        if not found:
            raise NotFoundError("there is no such backup")
        looked = jobs_service.get(session, look) if look else None
        if looked is not None and looked.request.get("plan_id") != plan_id:
            raise NotFoundError("that look was into another backup")
        is_told = plans.schedules_of(session, asset_id) is not None
        return found[0], plans.jobs_of(session, asset_id, plan_id), looked, is_told

    seen, past, looked, is_told = await hub.database.read(caller.scope, unit)
    return await tab(
        request, hub, caller, asset_id, "backups/one.html",
        one=seen, plan=seen.plan, found=seen.plan.found or {}, past=past, looked=looked,
        is_told=is_told,
        here=request.url.path + (f"?look={looked.id}" if looked else ""),
    )  # fmt: skip


@router.post("/{plan_id}/plan")
async def plan_again(
    hub: TheHub, asset_id: str, plan_id: str, caller: Caller = may_see("backup.plan")
) -> Response:
    """Ask for the plan anew."""
    await api.plan_again(hub, asset_id, plan_id, Timing(), None, caller)
    return _to(asset_id, plan_id)


@router.post("/{plan_id}/approve")
async def approve(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    version: Annotated[int, Form(ge=0, le=2**31)],
    start: Annotated[bool, Form()] = False,
    caller: Caller = may_see("backup.approve"),
) -> Response:
    """Approve what was looked at, and run it where that was chosen."""
    body = requests.ApproveIn(version=version)
    await api.approve_backup(hub, asset_id, plan_id, body, caller)
    if start:
        await api.run_backup(hub, asset_id, plan_id, Timing(), None, caller)
    return _to(asset_id, plan_id)


@router.post("/{plan_id}/run")
async def run(
    hub: TheHub, asset_id: str, plan_id: str, caller: Caller = may_see("backup.run")
) -> Response:
    """Run an approved backup."""
    await api.run_backup(hub, asset_id, plan_id, Timing(), None, caller)
    return _to(asset_id, plan_id)


@router.post("/{plan_id}/cancel")
async def cancel(
    hub: TheHub, asset_id: str, plan_id: str, caller: Caller = may_see("jobs.cancel")
) -> Response:
    """End what is under way."""
    await api.cancel_backup(hub, asset_id, plan_id, caller)
    return _to(asset_id, plan_id)


@router.post("/{plan_id}/remove")
async def remove(
    hub: TheHub, asset_id: str, plan_id: str, caller: Caller = may_see("backup.plan")
) -> Response:
    """Put a backup away."""
    await api.remove_backup(hub, asset_id, plan_id, caller)
    return _to(asset_id)


@router.post("/{plan_id}/verify")
async def verify(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    full: Annotated[bool, Form()] = False,
    caller: Caller = may_see("backup.run"),
) -> Response:
    """Read the copy again."""
    body = requests.VerifyIn(full=full)
    await api.verify_backup(hub, asset_id, plan_id, body, None, caller)
    return _to(asset_id, plan_id)


@router.post("/{plan_id}/look")
async def look_into(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    snapshot: Short = "",
    path: Short = "",
    caller: Caller = may_see("backup.plan"),
) -> Response:
    """Ask for the snapshots, or for what one of them holds."""
    body = checked(requests.LookIn, snapshot=snapshot or None, path=path or None)
    job = await api.look_into_backup(hub, asset_id, plan_id, body, None, caller)
    return _to(asset_id, f"{plan_id}?look={job.id}")


@router.post("/{plan_id}/prune")
async def prune(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    dry_run: Annotated[bool, Form()] = True,
    caller: Caller = may_see("backup.approve"),
) -> Response:
    """Drop the snapshots that the machine no longer keeps, or tell which."""
    body = requests.PruneIn(dry_run=dry_run)
    job = await api.prune_backup(hub, asset_id, plan_id, body, None, caller)
    return _to(asset_id, f"{plan_id}?look={job.id}")


@router.post("/{plan_id}/restore")
async def restore(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    paths: Text = "",
    to: Short = "",
    snapshot: Short = "",
    caller: Caller = may_see("backup.restore"),
) -> Response:
    """Copy back."""
    body = checked(
        requests.RestoreIn, paths=_lines(paths), to=to or None, snapshot=snapshot or None
    )
    await api.restore_backup(hub, asset_id, plan_id, body, None, caller)
    return _to(asset_id, plan_id)


def _lines(text: str) -> list[str]:
    return [line.strip("\r") for line in text.split("\n") if line.strip()]


def _to(asset_id: str, rest: str = "") -> Response:
    path = f"/agents/{asset_id}/backups"
    return RedirectResponse(f"{path}/{rest}" if rest else path, 303)


async def _told(hub: Hub, caller: Caller, asset_id: str) -> list[dict[str, Any]]:
    """Return what the machine has told; to set schedules unseen would take away others."""
    found = await api.show_schedules(hub, asset_id, caller)
    if found.told_at is None:
        raise ConflictError("ask the machine first what it runs by itself")
    return [one.model_dump(exclude={"words", "next_runs"}) for one in found.schedules]


async def _set(hub: Hub, caller: Caller, asset_id: str, wanted: list[dict[str, Any]]) -> Response:
    body = checked(requests.SchedulesIn, schedules=wanted)
    await api.set_schedules(hub, asset_id, body, None, caller)
    return _to(asset_id)
