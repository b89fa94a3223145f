"""What may be asked of backups, and the messages that it becomes.

Rules: pure. A run is sent with exactly the fields that its plan was made of; `requestId` and
`layout` go only to who has listed `backup2` (`wire.peers` sees to that), and a layout that such an
agent cannot be told is refused, not dropped. Hosts, paths and globs are judged by the machine.
Source: contract 1.5, 1.7 `backup2`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hub.admin.requests import Timing
from hub.backup.models import PATH_CHARS
from hub.errors import UnsupportedError
from hub.jobs.kinds import Features
from hub.jobs.models import Job
from wire import backup as wire
from wire import features as feature_names
from wire.events import ToAgent

PLAN, RUN, VERIFY, RESTORE = "backup_plan", "backup_run", "backup_verify", "backup_restore"
LS, PRUNE = "backup_ls", "backup_prune"
SCHEDULES, SCHEDULE = "backup_schedules", "backup_schedule_set"
HOUR_S = 3600.0
TIMEOUTS_S = {
    PLAN: 6 * HOUR_S,
    RUN: 72 * HOUR_S,
    VERIFY: 48 * HOUR_S,
    RESTORE: 72 * HOUR_S,
    LS: 600.0,
    PRUNE: 6 * HOUR_S,
    SCHEDULES: 60.0,
    SCHEDULE: 60.0,
}
EXCLUSIVE = (PLAN, RUN, VERIFY, RESTORE)
"""Of these a plan has one at a time."""

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
Path = Annotated[str, Field(min_length=1, max_length=PATH_CHARS, pattern=_PRINTABLE)]
Glob = Annotated[str, Field(min_length=1, max_length=1024, pattern=_PRINTABLE)]
Word = Annotated[str, Field(min_length=1, max_length=128, pattern=_PRINTABLE)]
Snapshot = Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]


class PlanIn(Timing):
    """A backup: what of the machine goes where. Without a host it is a copy on the machine."""

    name: Word | None = None
    source_dirs: Annotated[list[Path], Field(min_length=1, max_length=256)]
    dest_root: Path
    host: Annotated[str, Field(min_length=1, max_length=300, pattern=_PRINTABLE)] | None = None
    user: Word | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    ignore_globs: Annotated[list[Glob], Field(max_length=500)] = []
    layout: Literal["mirror", "snapshot"] | None = None


class ApproveIn(BaseModel):
    """`version`: of the plan that was looked at; None approves whatever there is."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=0, le=2**31)] | None = None


class VerifyIn(Timing):
    """`full` reads every byte; else a sample is read."""

    full: bool = False
    snapshot: Snapshot | None = None


class RestoreIn(Timing):
    """`paths` as the listing names them, none for all; `to`: a directory, none for where it was."""

    paths: Annotated[list[Path], Field(max_length=1000)] = []
    to: Path | None = None
    snapshot: Snapshot | None = None


class LookIn(Timing):
    """Without both: the snapshots and runs; else the files of a copy, below `path`."""

    snapshot: Snapshot | None = None
    path: Path | None = None


class PruneIn(Timing):
    """`dry_run` only tells what would go."""

    dry_run: bool = True


class ScheduleIn(BaseModel):
    """When a plan is run: a cron line in a time zone."""

    model_config = ConfigDict(extra="forbid")

    id: Word
    plan_id: Word
    cron: Word
    tz: Word = "UTC"
    enabled: bool = True


class SchedulesIn(Timing):
    """All schedules that hubs set on a machine; its own may be among them."""

    schedules: Annotated[list[ScheduleIn], Field(max_length=200)]


def messages(job: Job, features: Features) -> list[ToAgent]:
    """Return what is sent for a job.

    Raises:
        UnsupportedError: this agent cannot be told the layout.
    """
    asked = job.request
    if asked.get("layout") and feature_names.BACKUP2 not in (features or ()):
        raise UnsupportedError("this agent has its own layout, which nobody else can choose")
    return [_message(job.kind, job.id, asked)]


def _message(kind: str, job_id: str, asked: dict[str, Any]) -> ToAgent:
    plan_id = asked.get("plan_id", "")
    snapshot = asked.get("snapshot")
    match kind:
        case "backup_plan":
            return wire.BackupPlan(plan_id=plan_id, request_id=job_id, **_fields(asked))
        case "backup_run":
            return wire.BackupStart(plan_id=plan_id, request_id=job_id, **_fields(asked))
        case "backup_verify":
            full = asked.get("full")
            return wire.BackupVerify(
                plan_id=plan_id, request_id=job_id, snapshot=snapshot, full=full
            )
        case "backup_restore":
            paths = tuple(asked.get("paths") or ()) or None
            return wire.BackupRestore(
                plan_id=plan_id, request_id=job_id, snapshot=snapshot, paths=paths,
                to=asked.get("to"),
            )  # fmt: skip
        case "backup_ls":
            return wire.BackupLs(
                plan_id=plan_id, request_id=job_id, snapshot=snapshot, path=asked.get("path")
            )
        case "backup_prune":
            return wire.BackupPrune(
                plan_id=plan_id, request_id=job_id, dry_run=asked.get("dry_run")
            )
        case "backup_schedules":
            return wire.BackupScheduleList(request_id=job_id)
        case _:
            found = tuple(wire.Schedule(**one) for one in asked["schedules"])
            return wire.BackupScheduleSet(request_id=job_id, schedules=found)


def _fields(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "source_dirs": tuple(asked["source_dirs"]),
        "dest_root": asked["dest_root"],
        "host": asked["host"],
        "user": asked["user"],
        "port": asked["port"],
        "ignore_globs": tuple(asked["ignore_globs"]),
        "layout": asked["layout"],
    }


def told(request: dict[str, Any]) -> dict[str, Any]:
    """Say in the audit log what was asked for."""
    names = ("plan_id", "source_dirs", "dest_root", "host", "paths", "to", "snapshot", "schedules")
    return {name: request[name] for name in names if request.get(name)}
