"""A command's result: whose it is, and what it makes of its job.

Rules: found by `jobId`, else by the echoed token, else the oldest command of that text that is on
its way to this machine. Another machine's is refused and audited; a second one changes nothing.
Source: contract 1.4; fault cases B, C.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.agents.links import Link
from hub.authorize import Principal
from hub.errors import DuplicateResultError, ForeignResultError
from hub.jobs import service
from hub.jobs.models import Job
from hub.jobs.states import State
from wire import features
from wire.admin import AdminResult

UNKNOWN_OUTCOME = "unknown_outcome"
TIMED_OUT = 124
DENIED = 126
_ENDED_ON_REQUEST = ("restarted", "cancelled")
_ERROR_CHARS = 64


def find_job(session: Session, link: Link, message: AdminResult, kinds: frozenset[str]) -> Job:
    """Return the job that a result is of.

    Raises:
        ForeignResultError: it is another machine's; DuplicateResultError: nobody's.
    """
    name = message.job_id
    if name is None and features.ACK not in (link.features or ()):
        name = message.token
    job = session.get(Job, name) if name else None
    if job is not None and job.tenant_id == link.tenant_id:
        if job.asset_id != link.asset_id or job.kind not in kinds:
            raise ForeignResultError
        return job
    if message.job_id is not None:
        raise DuplicateResultError
    for one in service.in_flight(session, link.asset_id):
        if one.kind in kinds and one.request.get("command") == message.command:
            return one
    raise DuplicateResultError


def take(session: Session, link: Link, job: Job, message: AdminResult) -> Job:
    """End a job with its result.

    Raises:
        DuplicateResultError: it has ended already.
    """
    state, error = verdict(job, message)
    by = Principal("agent", link.agent_id, link.client_id, link.tenant_id, None)
    ended = service.finish(session, job.id, state, error=error, result=stored(message), by=by)
    if ended is None:
        raise DuplicateResultError
    return ended


def verdict(job: Job, message: AdminResult) -> tuple[State, str | None]:
    """Say how a job ended, and why, where it did not simply run."""
    outcome = message.result
    error = _word(outcome.error)
    if outcome.error == UNKNOWN_OUTCOME:
        return State.UNKNOWN, UNKNOWN_OUTCOME
    if job.cancel_ms is not None and outcome.error in _ENDED_ON_REQUEST:
        return State.CANCELLED, "cancelled"
    if outcome.summary.code == 0:
        return State.SUCCEEDED, error
    by_code = {TIMED_OUT: "timeout", DENIED: "policy_denied"}
    return State.FAILED, error or by_code.get(outcome.summary.code or 0)


def stored(message: AdminResult) -> dict[str, Any]:
    """Return what is kept of a result."""
    outcome, summary = message.result, message.result.summary
    found = {
        "code": summary.code,
        "signal": summary.signal,
        "duration_ms": summary.duration_ms,
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "truncated": summary.truncated,
        "stdout_bytes": summary.stdout_bytes,
        "stderr_bytes": summary.stderr_bytes,
        "error": outcome.error,
        "detail": message.detail,
    }
    return {name: value for name, value in found.items() if value is not None}


def _word(text: str | None) -> str | None:
    if not text:
        return None
    return "".join(char for char in text if char.isprintable())[:_ERROR_CHARS]
