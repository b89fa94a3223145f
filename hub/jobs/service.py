"""Jobs in the database: asked for, handed out once, ended once.

Rules: every change of state is one conditional statement that names the states before it, so that
of two that want the same change one wins; jobs of one machine are handed out in the order of `seq`;
two processes that hand out at once share the queue by `FOR UPDATE SKIP LOCKED` (SQLite has a single
writer). What was handed out is never handed out again, save when it surely was not sent.
Source: fault cases B, C; contract 1.7.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import ConflictError, NotFoundError, UnavailableError
from hub.ids import new_id
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.states import IN_FLIGHT, State, before

WhenOffline = Literal["queue", "skip", "fail"]
EXPIRES_IN_S = 24 * 3600
MAX_EXPIRES_IN_S = 30 * 24 * 3600
GRACE_S = 60.0
"""How long past its own time-outs a result may be on its way."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody wants done.

    `timeout_s` bounds the work itself; agents may let it wait as long again before it begins.
    """

    request: dict[str, Any]
    timeout_s: float
    when_offline: WhenOffline = "queue"
    expires_in_s: int = EXPIRES_IN_S
    batch_id: str | None = None
    idempotency_key: str | None = None


def submit(
    session: Session,
    who: Principal,
    asset: Asset,
    kind: JobKind,
    order: Order,
    *,
    is_online: bool,
) -> tuple[Job, bool]:
    """Put a job into the queue, or end it at once as `when_offline` says.

    Returns:
        the job, and whether it is new: the same `idempotency_key` and request give the same one.

    Raises:
        UnavailableError: `agent_offline`: the machine is not linked and `when_offline` is `fail`.
        ConflictError: `idempotency_mismatch`.
    """
    digest = _digest(asset, kind, order)
    known = _known(session, who, order.idempotency_key, digest)
    if known is not None:
        return known, False
    if not is_online and order.when_offline == "fail" and order.batch_id is None:
        raise UnavailableError("the machine is not linked", code="agent_offline")
    job = _row(session, who, asset, kind, order, digest)
    if not is_online and order.when_offline != "queue":
        _end_unsent(job, order.when_offline)
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        known = _known(session, who, order.idempotency_key, digest)
        if known is None:
            raise
        return known, False
    _audit_request(session, who, job, kind)
    return job, True


def submit_ended(
    session: Session,
    who: Principal,
    asset: Asset,
    kind: JobKind,
    order: Order,
    error: str | None,
    result: dict[str, Any],
    state: State = State.FAILED,
) -> Job:
    """Store a job that has ended: what the hub itself refuses, or a machine did by itself."""
    job = _row(session, who, asset, kind, order, _digest(asset, kind, order))
    job.idempotency_key = None
    job.state, job.error, job.result = state, error, result
    job.ended_ms = job.created_ms
    session.add(job)
    session.flush()
    _audit_request(session, who, job, kind, outcome=error or "ok")
    return job


def of_key(session: Session, who: Principal, key: str | None) -> Job | None:
    """Return the job that somebody has asked for with this idempotency key."""
    if key is None:
        return None
    return session.scalar(select(Job).where(Job.created_by == who.id, Job.idempotency_key == key))


def get(session: Session, job_id: str, *, is_locked: bool = False) -> Job:
    """Return a job of the session's tenant.

    Args:
        is_locked: nobody else changes it until the unit ends.

    Raises:
        NotFoundError: it is unknown or another tenant's.
    """
    job = session.get(Job, job_id, populate_existing=True, with_for_update=is_locked or None)
    if job is None or session.info.get("tenant") not in (None, job.tenant_id):
        raise NotFoundError("there is no such job")
    return job


def claim(session: Session, asset_id: str, agent_id: str, window: int) -> list[Job]:
    """Hand out a machine's next jobs: what this returns is the caller's to send, and nobody else's.

    Args:
        window: how many may be on their way or running at once.
    """
    flying = session.scalar(
        select(func.count(Job.id)).where(Job.asset_id == asset_id, Job.state.in_(IN_FLIGHT))
    )
    room = window - (flying or 0)
    if room <= 0:
        return []
    now = now_ms()
    jobs = list(
        session.scalars(
            select(Job)
            .where(Job.asset_id == asset_id, Job.state == State.QUEUED, Job.expires_ms > now)
            .order_by(Job.seq)
            .limit(room)
            .with_for_update(skip_locked=True)
        )
    )
    for job in jobs:
        job.state, job.agent_id, job.sent_ms = State.SENT, agent_id, now
        job.deadline_ms = now + round((2 * job.timeout_s + GRACE_S) * 1000)
    session.flush()
    return jobs


def release(session: Session, job_ids: Iterable[str]) -> list[Job]:
    """Take back what surely was not sent: it waits again, or ends as `when_offline` says."""
    jobs = _locked(session, job_ids, frozenset({State.SENT}))
    for job in jobs:
        job.state, job.agent_id = State.QUEUED, None
        job.sent_ms = job.deadline_ms = None
        if job.when_offline != "queue":
            _end_unsent(job, job.when_offline)
    session.flush()
    return jobs


def mark_running(session: Session, job_ids: Iterable[str], agent_id: str) -> list[Job]:
    """Note that a machine works at these."""
    jobs = _locked(session, job_ids, before(State.RUNNING))
    now = now_ms()
    for job in jobs:
        job.state, job.agent_id = State.RUNNING, agent_id
        job.sent_ms = job.sent_ms or now
        job.deadline_ms = job.deadline_ms or now + round((2 * job.timeout_s + GRACE_S) * 1000)
    session.flush()
    return jobs


def finish(
    session: Session,
    job_id: str,
    state: State,
    *,
    error: str | None = None,
    result: dict[str, Any] | None = None,
    by: Principal = audit.SYSTEM,
) -> Job | None:
    """End a job, once.

    Args:
        error: why, where it is not a plain success or a command's own code.
        result: the family's.
        by: whose word it is.

    Returns:
        the job; None: it is unknown or has ended already, and nothing was changed.
    """
    changed = affected(
        session,
        update(Job)
        .where(Job.id == job_id, Job.state.in_(before(state)))
        .values(state=state, error=error, result=result, ended_ms=now_ms()),
    )
    if changed == 0:
        return None
    job = session.get(Job, job_id, populate_existing=True)
    assert job is not None
    outcome = "ok" if state is State.SUCCEEDED else state.value
    of = ("job", job.id)
    audit.record(session, job.tenant_id, by, "job.ended", outcome, of=of, error=error)
    return job


def request_cancel(
    session: Session, who: Principal, job_id: str, may_cancel: Callable[[Job], bool]
) -> Job:
    """End a queued job, or note that somebody wants a sent one ended.

    Args:
        may_cancel: whether its agent can be asked to end it.

    Raises:
        NotFoundError: no such job; ConflictError: `already_ended`, or `not_cancellable`: it was
            sent, and the contract knows no message that would end it.
    """
    job = get(session, job_id, is_locked=True)  # or it is sent while it is taken for a queued one
    ended = finish(session, job_id, State.CANCELLED, by=who) if job.state == State.QUEUED else None
    if ended is not None:
        return ended
    if job.state not in IN_FLIGHT:
        raise ConflictError(f"the job is {job.state} already", code="already_ended")
    if not may_cancel(job):
        raise ConflictError(
            "it was sent already, and its agent cannot be asked to end it",
            code="not_cancellable",
        )
    job.cancel_ms = job.cancel_ms or now_ms()
    session.flush()
    audit.record(session, job.tenant_id, who, "jobs.cancel", of=("job", job.id))
    return job


def in_flight(session: Session, asset_id: str) -> list[Job]:
    """Return what a machine was sent and has not answered, oldest first."""
    return list(
        session.scalars(
            select(Job).where(Job.asset_id == asset_id, Job.state.in_(IN_FLIGHT)).order_by(Job.seq)
        )
    )


def _known(session: Session, who: Principal, key: str | None, digest: str) -> Job | None:
    job = of_key(session, who, key)
    if job is not None and job.request_digest != digest:
        raise ConflictError(
            "this idempotency key came with another request", code="idempotency_mismatch"
        )
    return job


def _row(
    session: Session, who: Principal, asset: Asset, kind: JobKind, order: Order, digest: str
) -> Job:
    now = now_ms()
    return Job(
        id=new_id(),
        tenant_id=asset.tenant_id,
        asset_id=asset.id,
        seq=_next_seq(session, asset.id),
        kind=kind.name,
        request=order.request,
        state=State.QUEUED,
        when_offline=order.when_offline,
        timeout_s=order.timeout_s,
        batch_id=order.batch_id,
        idempotency_key=order.idempotency_key,
        request_digest=digest,
        created_by=who.id,
        created_name=who.name[:256],
        login_id=who.credential_id,
        created_ms=now,
        expires_ms=now + order.expires_in_s * 1000,
    )


def _next_seq(session: Session, asset_id: str) -> int:
    """Number a machine's jobs; its row is locked, so that nobody takes the same number."""
    session.execute(select(Asset.id).where(Asset.id == asset_id).with_for_update())
    return 1 + (session.scalar(select(func.max(Job.seq)).where(Job.asset_id == asset_id)) or 0)


def _digest(asset: Asset, kind: JobKind, order: Order) -> str:
    said = [asset.id, kind.name, order.request, order.timeout_s, order.when_offline]
    text = json.dumps([*said, order.expires_in_s], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _end_unsent(job: Job, when_offline: str) -> None:
    is_skipped = when_offline == "skip"
    job.state = State.CANCELLED if is_skipped else State.FAILED
    job.error = "skipped" if is_skipped else "agent_offline"
    job.ended_ms = now_ms()


def _locked(session: Session, job_ids: Iterable[str], states: frozenset[State]) -> list[Job]:
    return list(
        session.scalars(
            select(Job)
            .where(Job.id.in_(list(job_ids)), Job.state.in_(states))
            .order_by(Job.seq)
            .with_for_update()
        )
    )


def _audit_request(
    session: Session, who: Principal, job: Job, kind: JobKind, outcome: str = "ok"
) -> None:
    detail = {"asset_id": job.asset_id, "state": job.state, **kind.told(job.request)}
    audit.record(session, job.tenant_id, who, kind.action, outcome, of=("job", job.id), **detail)
