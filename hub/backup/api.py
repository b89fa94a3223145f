"""Backups over HTTP: plan, approve, run, verify, restore, look, schedules."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel
from sqlalchemy.orm import Session

from hub.admin.requests import Timing
from hub.agents import service as agents
from hub.assembly import Hub
from hub.backup import plans, requests, views
from hub.backup.models import BackupPlan
from hub.backup.requests import (
    ApproveIn,
    LookIn,
    PlanIn,
    PruneIn,
    RestoreIn,
    SchedulesIn,
    VerifyIn,
)
from hub.backup.standing import hero
from hub.backup.views import BackupOut, SchedulesOut
from hub.errors import NotFoundError
from hub.jobs.models import Job
from hub.jobs.views import JobOut
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/agents/{asset_id}", tags=["backups"])
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128)]


class BackupsOut(BaseModel):
    """All backups of a machine, and the one sentence on them."""

    standing: str
    sentence: str
    items: list[BackupOut]


@router.get("/backups")
async def list_backups(
    hub: TheHub, asset_id: str, caller: Caller = may("backup.read")
) -> BackupsOut:
    """List a machine's backups, and say whether all is well."""
    found = await hub.database.read(caller.scope, seen, hub, asset_id)
    told = hero([one.standing for one in found])
    items = [BackupOut.of(one) for one in found]
    return BackupsOut(standing=told.word, sentence=told.sentence, items=items)


@router.post("/backups", status_code=201)
async def add_backup(
    hub: TheHub, asset_id: str, body: PlanIn, key: Key = None, caller: Caller = may("backup.plan")
) -> BackupOut:
    """Describe a backup, and ask the machine what a run would copy."""
    plan, job = await hub.database.write(
        caller.scope, hub.backups.submission.add, caller, asset_id, body, key
    )
    hub.jobs.changed(job)
    return await _shown(hub, caller, plan)


@router.get("/backups/{plan_id}")
async def show_backup(
    hub: TheHub, asset_id: str, plan_id: str, caller: Caller = may("backup.read")
) -> BackupOut:
    """Show one backup: what it copies, how it stands, how far it is."""
    _, plan = await hub.database.read(caller.scope, plans.get, asset_id, plan_id)
    return await _shown(hub, caller, plan)


@router.delete("/backups/{plan_id}", status_code=204)
async def remove_backup(
    hub: TheHub, asset_id: str, plan_id: str, caller: Caller = may("backup.plan")
) -> None:
    """Put a backup away; what it has copied stays."""

    def unit(session: Session) -> BackupPlan:
        _, plan = plans.get(session, asset_id, plan_id)
        plans.remove(session, caller, plan)
        return plan

    hub.backups.changed(await hub.database.write(caller.scope, unit))


@router.post("/backups/{plan_id}/approve")
async def approve_backup(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    body: ApproveIn,
    caller: Caller = may("backup.approve"),
) -> BackupOut:
    """Let a backup be run as it was planned."""

    def unit(session: Session) -> BackupPlan:
        _, plan = plans.get(session, asset_id, plan_id)
        plans.approve(session, caller, plan, body.version)
        return plan

    plan = await hub.database.write(caller.scope, unit)
    hub.backups.changed(plan)
    return await _shown(hub, caller, plan)


@router.post("/backups/{plan_id}/plan", status_code=201)
async def plan_again(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    body: Timing,
    key: Key = None,
    caller: Caller = may("backup.plan"),
) -> JobOut:
    """Ask the machine anew what a run would copy; it then has to be approved again."""
    return await _ask(hub, caller, asset_id, plan_id, requests.PLAN, body, key)


@router.post("/backups/{plan_id}/run", status_code=201)
async def run_backup(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    body: Timing,
    key: Key = None,
    caller: Caller = may("backup.run"),
) -> JobOut:
    """Run an approved backup, now or when the machine is back."""
    return await _ask(hub, caller, asset_id, plan_id, requests.RUN, body, key)


@router.post("/backups/{plan_id}/cancel")
async def cancel_backup(
    hub: TheHub, asset_id: str, plan_id: str, caller: Caller = may("jobs.cancel")
) -> JobOut:
    """End what is under way for a backup."""

    def unit(session: Session) -> Job | None:
        _, plan = plans.get(session, asset_id, plan_id)
        return plans.open_job(session, plan.asset_id, plan.id)

    job = await hub.database.read(caller.scope, unit)
    if job is None:
        raise NotFoundError("nothing is being done for this backup")
    return JobOut.of(await hub.jobs.cancel(caller, job.id))


@router.post("/backups/{plan_id}/verify", status_code=201)
async def verify_backup(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    body: VerifyIn,
    key: Key = None,
    caller: Caller = may("backup.run"),
) -> JobOut:
    """Read a copy again and compare it with what was copied."""
    return await _ask(hub, caller, asset_id, plan_id, requests.VERIFY, body, key)


@router.post("/backups/{plan_id}/restore", status_code=201)
async def restore_backup(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    body: RestoreIn,
    key: Key = None,
    caller: Caller = may("backup.restore"),
) -> JobOut:
    """Copy back: some paths, or everything."""
    return await _ask(hub, caller, asset_id, plan_id, requests.RESTORE, body, key)


@router.post("/backups/{plan_id}/ls", status_code=201)
async def look_into_backup(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    body: LookIn,
    key: Key = None,
    caller: Caller = may("backup.plan"),
) -> JobOut:
    """Ask for the snapshots and runs, or for what a copy holds; the answer is the job's result."""
    return await _ask(hub, caller, asset_id, plan_id, requests.LS, body, key)


@router.post("/backups/{plan_id}/prune", status_code=201)
async def prune_backup(
    hub: TheHub,
    asset_id: str,
    plan_id: str,
    body: PruneIn,
    key: Key = None,
    caller: Caller = may("backup.approve"),
) -> JobOut:
    """Drop the snapshots that the machine's retention no longer keeps, or tell which."""
    return await _ask(hub, caller, asset_id, plan_id, requests.PRUNE, body, key)


@router.get("/backup-schedules")
async def show_schedules(
    hub: TheHub, asset_id: str, caller: Caller = may("backup.read")
) -> SchedulesOut:
    """Show what the machine runs by itself, as it has told last."""

    def unit(session: Session) -> SchedulesOut:
        asset = agents.get_asset(session, asset_id)
        return SchedulesOut.of(plans.schedules_of(session, asset.id))

    return await hub.database.read(caller.scope, unit)


@router.post("/backup-schedules/read", status_code=201)
async def read_schedules(
    hub: TheHub,
    asset_id: str,
    body: Timing,
    key: Key = None,
    caller: Caller = may("backup.plan"),
) -> JobOut:
    """Ask the machine what it runs by itself."""
    job = await hub.database.write(
        caller.scope, hub.backups.submission.schedules, caller, asset_id, body, key
    )
    hub.jobs.changed(job)
    return JobOut.of(job)


@router.put("/backup-schedules", status_code=201)
async def set_schedules(
    hub: TheHub,
    asset_id: str,
    body: SchedulesIn,
    key: Key = None,
    caller: Caller = may("backup.run"),
) -> JobOut:
    """Replace what hubs have set there; only approved backups may be named.

    What was set on the machine stays, and may be switched off and on.
    """
    job = await hub.database.write(
        caller.scope, hub.backups.submission.set_schedules, caller, asset_id, body, key
    )
    hub.jobs.changed(job)
    return JobOut.of(job)


def seen(session: Session, hub: Hub, asset_id: str, *plan_ids: str) -> list[views.Seen]:
    """Return a machine's plans as they stand.

    Raises:
        NotFoundError: there is no such machine for the caller.
    """
    asset = agents.get_asset(session, asset_id)
    return views.seen(session, hub.backups.progress, asset.id, *plan_ids)


async def _ask(
    hub: Hub, caller: Caller, asset_id: str, plan_id: str, kind: str, body: Timing, key: str | None
) -> JobOut:
    job = await hub.database.write(
        caller.scope, hub.backups.submission.ask, caller, asset_id, plan_id, kind, body, key
    )
    hub.jobs.changed(job)
    return JobOut.of(job)


async def _shown(hub: Hub, caller: Caller, plan: BackupPlan) -> BackupOut:
    found = await hub.database.read(caller.scope, seen, hub, plan.asset_id, plan.id)
    if not found:
        raise NotFoundError("there is no such backup")
    return BackupOut.of(found[0])
