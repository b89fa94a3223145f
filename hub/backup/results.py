"""What machines answer about backups: whose it is, and what it makes of its job and its plan.

Rules: one unit of work for job and plan. Found by `requestId`, which is the job's id; a foreign
agent has none, so it is the one thing that is under way for that plan. What an agent of ours ends
without a request is a run of its own schedule: it becomes a job that has ended. A plan or a job of
another machine is refused and audited; a second result changes nothing.
Source: contract 1.5, 1.7 `backup2`; fault cases B, C, H.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy.orm import Session

from hub.agents.links import Link
from hub.agents.models import Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.backup import plans, requests
from hub.backup.models import BackupPlan
from hub.errors import DuplicateResultError, ForeignResultError
from hub.jobs import service
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.service import Order
from hub.jobs.states import State
from wire import features
from wire.backup import BackupComplete, BackupFailed, BackupPlanned, BackupResult

CANCEL = "cancel:"
"""Before the job's id in the `requestId` of its cancelling."""
SCHEDULE = Principal("system", audit.SYSTEM.id, "schedule", audit.SYSTEM.tenant_id, None)
_ERROR_CHARS = 64
_NUMBERS = ("new", "changed", "unchanged", "deleted", "transferBytes")
_LISTS = ("folders", "notes", "errors")


def take_planned(session: Session, link: Link, message: BackupPlanned) -> Job:
    """A plan was made.

    Raises:
        ForeignResultError, DuplicateResultError; so do all of these.
    """
    plan = _plan(session, link, message.plan_id)
    job = _job(session, link, message.request_id, plan, (requests.PLAN,))
    if job is None:
        raise DuplicateResultError
    found = found_of(message)
    ended = _finish(session, link, job, State.SUCCEEDED, None, found)
    plans.note_planned(session, plan, job.id, found)
    return ended


def take_complete(session: Session, link: Link, message: BackupComplete, kind: JobKind) -> Job:
    """A run came to its end."""
    plan = _plan(session, link, message.plan_id)
    result = _plain(message)
    job = _job(session, link, message.request_id, plan, (requests.RUN,))
    state, error = (State.SUCCEEDED, None) if message.ok else (State.FAILED, "failed")
    ended = (
        _by_itself(session, link, plan, kind, state, error, result)
        if job is None
        else _finish(session, link, job, state, error, result)
    )
    word = "partial" if message.ok and message.partial else state.value
    plans.note_run(session, plan, ended.id, word, error=error, result=result)
    return ended


def take_failed(session: Session, link: Link, message: BackupFailed, kind: JobKind) -> Job:
    """A plan or a run did not come to its end."""
    plan = _plan(session, link, message.plan_id)
    job = _job(session, link, message.request_id, plan, (requests.RUN, requests.PLAN))
    state, error = _verdict(message.error)
    result = {"error": message.error[:200], "detail": plans.cut(message.detail)}
    if job is None:
        ended = _by_itself(session, link, plan, kind, state, error, result)
    else:
        ended = _finish(session, link, job, state, error, result)
    note_end(session, plan, ended, message.detail or message.error)
    return ended


def take_result(session: Session, link: Link, message: BackupResult) -> Job | None:
    """Any request of `backup2` was answered; None: it changes no job."""
    if message.request_id.startswith(CANCEL):
        return _cancel_answered(session, link, message)
    job = session.get(Job, message.request_id)
    if job is None:
        raise DuplicateResultError
    _check_owner(job, link)
    state, error = (State.SUCCEEDED, None) if message.ok else _verdict(message.error or "failed")
    result = _plain(message)
    ended = _finish(session, link, job, state, error, result)
    plan = plans.find(session, job.request.get("plan_id", ""))
    if plan is not None:
        note_end(session, plan, ended, message.detail)
    else:
        _note_schedules(session, link, ended, message)
    return ended


def note_end(session: Session, plan: BackupPlan, job: Job, detail: str | None = None) -> None:
    """Note at the plan how a job ended, once, however it came there."""
    if job.kind == requests.PLAN and job.state != State.SUCCEEDED and plan.plan_job_id != job.id:
        plans.note_not_planned(session, plan, job.id, job.error or job.state, detail)
    if job.error == "already_running":
        return  # it says nothing of the run that is going on
    if job.kind == requests.RUN and job.state != State.SUCCEEDED and plan.last_job_id != job.id:
        plans.note_run(session, plan, job.id, job.state, error=job.error, detail=detail,
                       result=job.result)  # fmt: skip
    if job.kind == requests.VERIFY and (job.state == State.SUCCEEDED or job.error == "different"):
        plans.note_verified(session, plan, is_good=job.state == State.SUCCEEDED)
    plan.progress = plan.progress_ms = None


def found_of(message: BackupPlanned) -> dict[str, Any]:
    """Return what a run would do, as the API tells it; foreign agents tell totals alone."""
    found: dict[str, Any] = {
        "total_files": message.total_files,
        "total_bytes": message.total_bytes,
        "files": list(message.files),
        "modifies": list(message.modifies),
        "truncated": bool(message.truncated),
    }
    said = message.job if isinstance(message.job, dict) else {}
    found |= {_snake(name): said[name] for name in _NUMBERS if isinstance(said.get(name), int)}
    found |= {name: said[name] for name in _LISTS if isinstance(said.get(name), list)}
    for name in ("skipped", "rsync"):
        if isinstance(said.get(name), dict):
            found[name] = said[name]
    if isinstance(said.get("layout"), str):
        found["layout"] = said["layout"]
    return found


# -- whose it is ---------------------------------------------------------------------------------


def _plan(session: Session, link: Link, plan_id: str) -> BackupPlan:
    plan = plans.find(session, plan_id)
    if plan is None:
        raise DuplicateResultError
    if plan.asset_id != link.asset_id:
        raise ForeignResultError
    return plan


def _job(
    session: Session, link: Link, request_id: str | None, plan: BackupPlan, kinds: tuple[str, ...]
) -> Job | None:
    """Return the job that a result is of; None: an agent of ours did it by itself."""
    if request_id is not None:
        job = session.get(Job, request_id)
        if job is None:
            raise DuplicateResultError
        _check_owner(job, link)
        if job.request.get("plan_id") != plan.id or job.kind not in kinds:
            raise ForeignResultError
        return job
    if features.BACKUP2 in (link.features or ()):
        return None
    for one in service.in_flight(session, link.asset_id):
        if one.kind in kinds and one.request.get("plan_id") == plan.id:
            return one
    raise DuplicateResultError


def _check_owner(job: Job, link: Link) -> None:
    if job.asset_id != link.asset_id or not job.kind.startswith("backup_"):
        raise ForeignResultError


# -- ends ----------------------------------------------------------------------------------------


def _finish(
    session: Session, link: Link, job: Job, state: State, error: str | None, result: dict[str, Any]
) -> Job:
    by = Principal("agent", link.agent_id, link.client_id, link.tenant_id, None)
    ended = service.finish(session, job.id, state, error=error, result=result, by=by)
    if ended is None:
        raise DuplicateResultError
    return ended


def _by_itself(
    session: Session,
    link: Link,
    plan: BackupPlan,
    kind: JobKind,
    state: State,
    error: str | None,
    result: dict[str, Any],
) -> Job:
    """Keep a run that the machine's own schedule has started."""
    asset = session.get(Asset, link.asset_id)
    if asset is None:
        raise DuplicateResultError
    request = {"plan_id": plan.id, **plans.fields(plan)}
    order = Order(request=request, timeout_s=0.0, expires_in_s=0)
    return service.submit_ended(session, SCHEDULE, asset, kind, order, error, result, state)


def _cancel_answered(session: Session, link: Link, message: BackupResult) -> Job | None:
    """Nothing to cancel, and no result either: nobody can tell how it ended."""
    job = session.get(Job, message.request_id.removeprefix(CANCEL))
    if job is None:
        raise DuplicateResultError
    _check_owner(job, link)
    if message.ok or message.error != "not_running":
        return None
    ended = service.finish(session, job.id, State.UNKNOWN, error="unknown_outcome")
    plan = plans.find(session, job.request.get("plan_id", ""))
    if ended is not None and plan is not None:
        note_end(session, plan, ended)
    return ended


def _note_schedules(session: Session, link: Link, job: Job, message: BackupResult) -> None:
    """Keep what the machine tells that it has, also where it refused to have something else."""
    asset = session.get(Asset, link.asset_id)
    if asset is None:
        return
    if message.schedules is not None:
        plans.note_schedules(session, asset, [_schedule(one) for one in message.schedules])
    elif message.ok and job.kind == requests.SCHEDULE:
        plans.note_schedules(session, asset, job.request["schedules"])


def _schedule(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("id", "plan_id", "cron", "tz", "enabled")}


def _verdict(error: str) -> tuple[State, str]:
    word = "".join(char for char in error if char.isprintable())[:_ERROR_CHARS] or "failed"
    by_word = {"cancelled": State.CANCELLED, "unknown_outcome": State.UNKNOWN}
    return by_word.get(word, State.FAILED), word


def _plain(message: BackupComplete | BackupResult) -> dict[str, Any]:
    """Return a message as the job's result: in our own spelling, without what names it."""
    said = msgspec.to_builtins(message)
    left_out = ("id", "requestId", "planId", "type", "t")
    return {_snake(name): value for name, value in said.items() if name not in left_out}


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
