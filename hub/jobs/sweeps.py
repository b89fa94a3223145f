"""What happens to jobs by itself: expiry, deadlines, and the work of whoever may no longer ask.

Rules: each sweep takes a bounded number of rows and skips what another process holds. A deadline is
no verdict about the machine: the job becomes `unknown`, and a late result still replaces that.
Source: fault cases B ("cut <= 2 s"), C.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, delete, or_, select
from sqlalchemy.orm import Session

from hub.agents.models import Agent, Asset
from hub.audit import service as audit
from hub.authorize import Role
from hub.clock import now_ms
from hub.db.rows import affected
from hub.ids import first_of
from hub.jobs.models import Job
from hub.jobs.service import finish
from hub.jobs.states import IN_FLIGHT, State
from hub.operators.models import Login, Tenant, User

AT_ONCE = 500


def sweep(session: Session) -> list[Job]:
    """End what is due; return it."""
    now = now_ms()
    queued = Job.state == State.QUEUED
    overdue = and_(Job.state.in_(IN_FLIGHT), Job.deadline_ms <= now)
    return [
        *_end(session, and_(queued, Job.expires_ms <= now), State.EXPIRED, "expired"),
        *_end(session, overdue, State.UNKNOWN, "deadline"),
        *_end(session, and_(queued, _is_orphan()), State.CANCELLED, "revoked"),
    ]


def end_missing(session: Session, job_ids: list[str]) -> list[Job]:
    """End what its machine was sent, no longer has, and has not answered."""
    missing = and_(Job.id.in_(job_ids), Job.state.in_(IN_FLIGHT))
    return _end(session, missing, State.UNKNOWN, "unknown_outcome")


def after_restore(session: Session) -> int:
    """Let nothing of an older database run again: it may have run since the backup was taken.

    Returns:
        how many queued jobs became `unknown`.
    """
    count = 0
    while ended := _end(session, Job.state == State.QUEUED, State.UNKNOWN, "hub_restored"):
        count += len(ended)
    return count


def forget(session: Session, before_ms: int) -> int:
    """Drop jobs that ended before a time, a bounded number of rows; return how many."""
    old = select(Job.id).where(Job.id < first_of(before_ms), Job.ended_ms < before_ms)
    return affected(session, delete(Job).where(Job.id.in_(old.order_by(Job.id).limit(AT_ONCE))))


def waiting_assets(session: Session) -> list[str]:
    """Return the machines that something waits for."""
    return list(session.scalars(select(Job.asset_id).where(Job.state == State.QUEUED).distinct()))


def _end(session: Session, which: ColumnElement[bool], state: State, error: str) -> list[Job]:
    ids = session.scalars(
        select(Job.id)
        .where(which)
        .order_by(Job.id)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    ended = [finish(session, one, state, error=error) for one in ids]
    return [job for job in ended if job is not None]


def _is_orphan() -> ColumnElement[bool]:
    """Whoever asked may no longer, or the machine is no longer one of ours."""
    may_ask = select(User.id).where(User.disabled_ms.is_(None), User.role != Role.AUDITOR)
    revoked = select(Login.id).where(Login.kind == "token", Login.revoked_ms.is_not(None))
    closed = select(Tenant.id).where(Tenant.disabled_ms.is_not(None))
    machines = (
        select(Agent.asset_id)
        .join(Asset, Asset.id == Agent.asset_id)
        .where(Agent.state.in_(("active", "pending")), Asset.deleted_ms.is_(None))
    )
    return or_(
        and_(Job.created_by != audit.SYSTEM.id, Job.created_by.not_in(may_ask)),
        Job.login_id.in_(revoked),
        Job.tenant_id.in_(closed),
        Job.asset_id.not_in(machines),
    )
