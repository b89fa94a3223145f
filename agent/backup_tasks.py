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
from agent.worker import Worker
from wire.backup import BackupStart
from wire.events import ToServer
from workers import backup_request
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


def check_start(message: BackupStart, plan: Plan, *, lenient: bool) -> None:
    """Refuse what is not the plan that was made.

    Args:
        lenient: a hub of ours may leave fields out.

    Raises:
        BackupError: `plan_mismatch` with the first field that differs.
    """
    planned = plan.request()
    sources, dest = message.source_dirs, message.dest_root
    if lenient and sources is None and dest is None:
        asked = planned
    else:
        asked = backup_request.normalised(
            sources or (),
            dest or "",
            message.host,
            message.user,
            message.port,
            message.ignore_globs,
        )
    differs = backup_request.difference(planned, asked)
    if lenient and message.layout not in (None, plan.layout):
        differs = differs or "layout"
    if differs is not None:
        raise BackupError("plan_mismatch", differs)


def failure(task: Task, error: str, detail: str | None) -> ToServer:
    """Return the final of a task that did not come to its end."""
    result = BackupEnded(op=task.op, ok=False, duration_ms=0, error=error, detail=detail)
    return backup_events.ended(task.op, task.plan.plan_id, task.request_id, result)


def task_of(record: JobRecord) -> Task:
    """Return the task that a record tells of; raises KeyError, msgspec.MsgspecError."""
    wire = record.wire
    task = Task(wire["op"], msgspec.convert(wire["plan"], Plan), wire.get("requestId"))
    task.is_told = bool(wire.get("isTold", True))
    return task
