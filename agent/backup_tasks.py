"""One accepted backup request, and what of it outlives the agent.

Source: contract 1.5, 1.7 `backup2`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent import backup_events
from agent.backup_store import Plan
from agent.limits import Place, Waiting
from agent.log import Log
from agent.worker import Worker
from wire.backup import BackupComplete, BackupFailed, BackupPlan, BackupResult, BackupStart
from wire.events import ToServer
from workers import backup_request
from workers.backup_request import Request
from workers.errors import BackupError
from workers.jobs import JobRecord
from workers.messages_backup import BackupEnded, BackupOp


@dataclass(eq=False)
class Task:
    """One accepted request. `args` are of BackupSpec."""

    op: BackupOp
    plan: Plan
    request_id: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    worker: Worker | None = None
    place: Place | None = None
    waiting: Waiting | None = None
    done: bool = False
    is_told: bool = True  # a schedule's own run is told to a hub of ours alone

    @property
    def key(self) -> str:
        """The server's name for the job."""
        if self.op in ("plan", "run"):
            return self.plan.plan_id
        return f"{self.plan.plan_id}/{self.op}/{self.request_id}"


def request_of(message: BackupPlan | BackupStart) -> Request:
    """Return what is asked for, normalised; raises BackupError `bad_port`."""
    return backup_request.normalised(
        message.source_dirs or (),
        message.dest_root or "",
        message.host,
        message.user,
        message.port,
        message.ignore_globs,
    )


def check_start(message: BackupStart, plan: Plan, *, lenient: bool) -> None:
    """Refuse what is not the plan that was made.

    Args:
        lenient: a hub of ours may leave fields out.

    Raises:
        BackupError: `plan_mismatch` with the first field that differs.
    """
    planned = plan.request()
    if lenient and message.source_dirs is None and message.dest_root is None:
        asked = planned
    else:
        asked = request_of(message)
    differs = backup_request.difference(planned, asked)
    if lenient and message.layout not in (None, plan.layout):
        differs = differs or "layout"
    if differs is not None:
        raise BackupError("plan_mismatch", differs)


def failure(task: Task, error: str, detail: str | None) -> ToServer:
    """Return the final of a task that did not come to its end."""
    result = BackupEnded(op=task.op, ok=False, duration_ms=0, error=error, detail=detail)
    return backup_events.ended(task.op, task.plan.plan_id, task.request_id, result)


def note_end(log: Log, task: Task, event: ToServer) -> None:
    """Write an end to the log: of a run that a schedule began nobody else may hear."""
    fields = {"op": task.op, "plan": task.plan.plan_id}
    if isinstance(event, BackupFailed | BackupResult) and event.error is not None:
        log.warning("a backup failed", error=event.error, detail=event.detail, **fields)
    else:
        is_partial = isinstance(event, BackupComplete) and bool(event.partial)
        log.info("a backup has ended", partial=is_partial, **fields)


def task_of(record: JobRecord) -> Task:
    """Return the task that a record tells of; raises KeyError, msgspec.MsgspecError."""
    wire = record.wire
    task = Task(wire["op"], msgspec.convert(wire["plan"], Plan), wire.get("requestId"))
    task.is_told = bool(wire.get("isTold", True))
    return task
