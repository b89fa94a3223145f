"""Plans in the database: made, looked up, approved, put away; and what their jobs have left.

Rules: plain functions in the caller's unit of work. Approval is one conditional statement on the
version that was seen. What a job left is noted once, by the job's id.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.models import Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.backup import schedules
from hub.backup.models import DETAIL_CHARS, BackupPlan, BackupSchedules
from hub.backup.requests import EXCLUSIVE, PlanIn
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import ConflictError, NotFoundError
from hub.ids import new_id
from hub.jobs.models import Job
from hub.jobs.states import OPEN

HISTORY = 200


def add(session: Session, who: Principal, asset: Asset, asked: PlanIn) -> BackupPlan:
    """Make a plan; nothing has been sent."""
    plan = BackupPlan(
        id=new_id(),
        tenant_id=asset.tenant_id,
        asset_id=asset.id,
        name=asked.name or asked.source_dirs[0][-128:],
        source_dirs=asked.source_dirs,
        dest_root=asked.dest_root,
        host=asked.host,
        remote_user=asked.user,
        port=asked.port,
        ignore_globs=asked.ignore_globs,
        layout=asked.layout,
        state="draft",
        version=0,
        created_ms=now_ms(),
        created_by=who.name[:256],
        is_late=False,
    )
    session.add(plan)
    session.flush()
    return plan


def fields(plan: BackupPlan) -> dict[str, Any]:
    """Return what a plan was made of, as its jobs carry it."""
    return {
        "source_dirs": plan.source_dirs,
        "dest_root": plan.dest_root,
        "host": plan.host,
        "user": plan.remote_user,
        "port": plan.port,
        "ignore_globs": plan.ignore_globs,
        "layout": plan.layout,
    }


def fields_of(asked: PlanIn) -> dict[str, Any]:
    """Return the same of a plan that is not made yet."""
    return asked.model_dump(exclude={"name", "when_offline", "expires_in"})


def get(session: Session, asset_id: str, plan_id: str) -> tuple[Asset, BackupPlan]:
    """Return a machine and a plan of it.

    Raises:
        NotFoundError: there is none for this caller.
    """
    asset = agents.get_asset(session, asset_id)
    plan = find(session, plan_id)
    if plan is None or plan.asset_id != asset.id or plan.removed_ms is not None:
        raise NotFoundError("there is no such backup")
    return asset, plan


def find(session: Session, plan_id: str) -> BackupPlan | None:
    """Return a plan of the session's tenant, whichever machine's."""
    return session.scalar(
        select(BackupPlan).where(BackupPlan.id == plan_id).execution_options(populate_existing=True)
    )


def of_asset(session: Session, asset_id: str) -> list[BackupPlan]:
    """Return a machine's plans, oldest first."""
    found = select(BackupPlan).where(
        BackupPlan.asset_id == asset_id, BackupPlan.removed_ms.is_(None)
    )
    return list(session.scalars(found.order_by(BackupPlan.id).limit(HISTORY)))


def jobs_of(session: Session, asset_id: str, plan_id: str, limit: int = 20) -> list[Job]:
    """Return what was asked for a plan, newest first."""
    found = select(Job).where(
        Job.asset_id == asset_id,
        Job.kind.startswith("backup_"),
        Job.request["plan_id"].as_string() == plan_id,
    )
    return list(session.scalars(found.order_by(Job.id.desc()).limit(limit)))


def open_job(session: Session, asset_id: str, plan_id: str) -> Job | None:
    """Return what is being done for a plan, or waits to be."""
    return open_jobs(session, asset_id).get(plan_id)


def open_jobs(session: Session, asset_id: str) -> dict[str, Job]:
    """Return what is being done for each of a machine's plans."""
    found = select(Job).where(
        Job.asset_id == asset_id, Job.kind.in_(EXCLUSIVE), Job.state.in_(OPEN)
    )
    return {job.request["plan_id"]: job for job in session.scalars(found.order_by(Job.seq))}


def lock(session: Session, plan: BackupPlan) -> None:
    """Let nobody else put something into this plan's queue meanwhile."""
    session.execute(select(BackupPlan.id).where(BackupPlan.id == plan.id).with_for_update())
    session.refresh(plan)


def approve(session: Session, who: Principal, plan: BackupPlan, version: int | None) -> None:
    """Let a plan be run as it was planned.

    Raises:
        ConflictError: `not_planned`; `changed`: it was planned anew since it was looked at.
    """
    if plan.state == "draft":
        raise ConflictError("it has not been planned yet: there is nothing to approve",
                            code="not_planned")  # fmt: skip
    seen = plan.version if version is None else version
    changed = affected(
        session,
        update(BackupPlan)
        .where(BackupPlan.id == plan.id, BackupPlan.version == seen)
        .values(state="approved", approved_ms=now_ms(), approved_by=who.name[:256]),
    )
    if changed == 0:
        raise ConflictError("it was planned anew: look at it again", code="changed")
    session.refresh(plan)
    of = ("backup_plan", plan.id)
    audit.record(session, plan.tenant_id, who, "backup.approve", of=of, version=seen,
                 asset_id=plan.asset_id)  # fmt: skip


def remove(session: Session, who: Principal, plan: BackupPlan) -> None:
    """Put a plan away; what it has copied stays where it is.

    Raises:
        ConflictError: `already_running`.
    """
    lock(session, plan)
    job = open_job(session, plan.asset_id, plan.id)
    if job is not None:
        raise ConflictError("something is being done for it: cancel that first",
                            code="already_running", job_id=job.id)  # fmt: skip
    plan.removed_ms = now_ms()
    session.flush()
    _show_at_machine(session, plan.asset_id)
    of = ("backup_plan", plan.id)
    audit.record(session, plan.tenant_id, who, "backup.plan", "removed", of=of)


# -- what jobs leave -----------------------------------------------------------------------------


def note_planned(session: Session, plan: BackupPlan, job_id: str, found: dict[str, Any]) -> None:
    """A machine has said what a run would do: whoever may has to approve that."""
    plan.state, plan.version = "planned", plan.version + 1
    plan.found, plan.planned_ms, plan.plan_job_id = found, now_ms(), job_id
    plan.plan_error = plan.plan_detail = plan.approved_ms = plan.approved_by = None
    session.flush()


def note_not_planned(
    session: Session, plan: BackupPlan, job_id: str, error: str, detail: str | None
) -> None:
    """A plan could not be made; what was known of it stays."""
    plan.plan_job_id, plan.plan_error = job_id, error
    plan.plan_detail = cut(detail)
    session.flush()


def note_run(
    session: Session,
    plan: BackupPlan,
    job_id: str,
    state: str,
    *,
    error: str | None = None,
    detail: str | None = None,
    result: dict[str, Any] | None = None,
) -> None:
    """A run has ended, well or not; the machine's own row shows it, too."""
    now = now_ms()
    plan.last_job_id, plan.last_ms, plan.last_state = job_id, now, state
    plan.last_error, plan.last_detail, plan.last_result = error, cut(detail), result
    plan.progress = plan.progress_ms = None
    is_good = state in ("succeeded", "partial")
    plan.is_late = plan.is_late and state != "succeeded"
    if is_good:
        plan.success_ms = now
        plan.verified_ms = plan.is_verified = None
    session.flush()
    _note_deadlines(session, plan.asset_id, [plan])
    _show_at_machine(session, plan.asset_id)


def _show_at_machine(session: Session, asset_id: str) -> None:
    """Let the machine's own row say when it was last backed up, and whether all of that went well.

    A good run of one backup does not hide the failed one of another.
    """
    asset = session.get(Asset, asset_id)
    if asset is None:
        return
    ran = [
        (plan.last_ms, plan.last_state)
        for plan in of_asset(session, asset_id)
        if plan.last_ms is not None and plan.last_state != "cancelled"
    ]
    asset.last_backup_ms = max((at_ms for at_ms, _ in ran), default=None)
    asset.last_backup_ok = all(state == "succeeded" for _, state in ran) if ran else None
    session.flush()


def note_verified(session: Session, plan: BackupPlan, *, is_good: bool) -> None:
    """A copy was read again, and was as it should be, or was not."""
    plan.verified_ms, plan.is_verified = now_ms(), is_good
    session.flush()


def cut(text: str | None) -> str | None:
    """Return what a machine says as text that every database keeps."""
    if not text:
        return None
    kept = "".join(char if char.isprintable() else " " for char in text)
    return kept[:DETAIL_CHARS]


# -- schedules -----------------------------------------------------------------------------------


def schedules_of(session: Session, asset_id: str) -> BackupSchedules | None:
    """Return the schedules that a machine has told; None: it was never asked."""
    return session.scalar(select(BackupSchedules).where(BackupSchedules.asset_id == asset_id))


def note_schedules(session: Session, asset: Asset, told: list[dict[str, Any]]) -> None:
    """Keep what a machine runs by itself; what is as it was keeps the moment it was known from."""
    row = schedules_of(session, asset.id)
    now = now_ms()
    known = {one["id"]: one for one in (row.schedules if row is not None else ())}
    kept = [{**one, "since_ms": _since(known.get(one["id"]), one, now)} for one in told]
    if row is None:
        row = BackupSchedules(asset_id=asset.id, tenant_id=asset.tenant_id)
        session.add(row)
    row.schedules, row.told_ms = kept, now
    session.flush()
    _note_deadlines(session, asset.id, of_asset(session, asset.id))


def _note_deadlines(session: Session, asset_id: str, found: list[BackupPlan]) -> None:
    """Let plans say from when on they are overdue."""
    row = schedules_of(session, asset_id)
    told = row.schedules if row is not None else []
    for plan in found:
        mine = [one for one in told if one["plan_id"] == plan.id]
        plan.overdue_ms = schedules.overdue_ms(mine, plan.success_ms)
    session.flush()


def _since(known: dict[str, Any] | None, one: dict[str, Any], now: int) -> int:
    if known is None or any(known.get(name) != value for name, value in one.items()):
        return now
    return int(known["since_ms"])
