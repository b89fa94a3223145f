"""Backups: a plan is made, then that plan is run.

Rules: hosts, paths and globs are any strings; the family judges them (`bad_host`, `bad_dest`).
"" and null count as absent, and so a port may come as 0, as "" or as digits.
`backup_plan`, `backup_complete`, `backup_error` and `backup_result` are final.

Source: contract 1.2, 1.5, 1.7 (`backup2`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from wire import features
from wire.fields import LISTED, Count, Id, Millis, Name, Part, Payload

Port = Annotated[int, Meta(ge=0, le=65535)] | Annotated[str, Meta(pattern=r"^[0-9]{0,5}(?![\s\S])")]
Layout = Name
# Fielded agents sample by name; an object is what a richer one may send.
Sample = str | dict[str, Any]

# -- to the agent -------------------------------------------------------------------------------


class BackupPlan(Payload, frozen=True, kw_only=True):
    """Say what a run would do."""

    OURS: ClassVar = {"request_id": features.BACKUP2, "layout": features.BACKUP2}

    plan_id: Id
    source_dirs: tuple[str, ...]
    dest_root: str
    host: str | None = None
    user: str | None = None
    port: Port | None = None
    ignore_globs: tuple[str, ...] | None = None
    request_id: Id | None = None
    layout: Layout | None = None


class BackupStart(Payload, frozen=True, kw_only=True):
    """Run the plan that was made; the fields must say the same as the plan."""

    OURS: ClassVar = {"request_id": features.BACKUP2, "layout": features.BACKUP2}

    plan_id: Id
    source_dirs: tuple[str, ...] | None = None
    dest_root: str | None = None
    host: str | None = None
    user: str | None = None
    port: Port | None = None
    ignore_globs: tuple[str, ...] | None = None
    request_id: Id | None = None
    layout: Layout | None = None


class BackupCancel(Payload, frozen=True, kw_only=True):
    """End what the plan is doing."""

    plan_id: Id
    request_id: Id


class BackupVerify(Payload, frozen=True, kw_only=True):
    """Compare a copy with its source; `full` reads every byte."""

    plan_id: Id
    request_id: Id
    snapshot: Name | None = None
    full: bool | None = None


class BackupRestore(Payload, frozen=True, kw_only=True):
    """Copy back: `paths`, or everything; to where it came from, or below `to`.

    `dry_run`: only say what would be overwritten; `failed`: again what the last one could not
    bring back, alone, to where it was to go.
    """

    plan_id: Id
    request_id: Id
    snapshot: Name | None = None
    paths: tuple[str, ...] | None = None
    to: str | None = None
    dry_run: bool | None = None
    failed: bool | None = None


class BackupLs(Payload, frozen=True, kw_only=True):
    """List snapshots, or what one holds below `path`."""

    plan_id: Id
    request_id: Id
    snapshot: Name | None = None
    path: str | None = None


class BackupPrune(Payload, frozen=True, kw_only=True):
    """Drop what the retention no longer keeps."""

    plan_id: Id
    request_id: Id
    dry_run: bool | None = None


class Schedule(Part, frozen=True, kw_only=True):
    """When a plan is run: a cron line in a time zone."""

    id: Id
    plan_id: Id
    cron: Name
    tz: Name
    enabled: bool


class BackupScheduleList(Payload, frozen=True, kw_only=True):
    """Ask for the schedules."""

    request_id: Id


class BackupScheduleSet(Payload, frozen=True, kw_only=True):
    """Replace the schedules."""

    request_id: Id
    schedules: tuple[Schedule, ...]


# -- to the server ------------------------------------------------------------------------------


class BackupPlanned(Payload, frozen=True, kw_only=True):
    """What a run would do: `backup_plan` on its way back. `job` is the request as understood."""

    OURS: ClassVar = {"request_id": features.BACKUP2, "id": features.ACK}

    plan_id: Id
    total_files: Count
    total_bytes: Count
    modifies: tuple[Sample, ...]
    files: tuple[Sample, ...]
    job: Any = None
    truncated: bool | None = None
    request_id: Id | None = None
    id: Id | None = None


class BackupProgress(Payload, frozen=True, kw_only=True):
    """How far a run is; `name_b64` where the file's name is not UTF-8."""

    OURS: ClassVar = {"name_b64": LISTED, "request_id": features.BACKUP2}

    plan_id: Id
    file: str | None
    op: Name | None
    percent: float
    transferred_bytes: Count
    total_bytes: Count
    files_completed: Count
    bytes_per_sec: float | None = None
    eta_sec: float | None = None
    name_b64: str | None = msgspec.field(default=None, name="name_b64")
    request_id: Id | None = None


class BackupComplete(Payload, frozen=True, kw_only=True):
    """A run's end; `partial` when something could not be read; what was planned, and what came."""

    OURS: ClassVar = {
        "files": LISTED,
        "planned_files": LISTED,
        "request_id": features.BACKUP2,
        "id": features.ACK,
    }

    plan_id: Id
    ok: bool
    ms: Millis
    transferred_bytes: Count
    partial: bool | None = None
    skipped: Count | None = None
    errors: tuple[str, ...] | None = None
    truncated: bool | None = None
    files: Count | None = None
    planned_files: Count | None = None
    request_id: Id | None = None
    id: Id | None = None


class BackupFailed(Payload, frozen=True, kw_only=True):
    """`backup_error`: the other end of a plan or a run."""

    OURS: ClassVar = {"detail": LISTED, "request_id": features.BACKUP2, "id": features.ACK}

    plan_id: Id
    error: str
    detail: str | None = None
    request_id: Id | None = None
    id: Id | None = None


class BackupResult(Payload, frozen=True, kw_only=True):
    """The answer to any request of `backup2`; a schedule request has no plan."""

    OURS: ClassVar = {"id": features.ACK}

    request_id: Id
    ok: bool
    plan_id: Id | None = None
    error: str | None = None
    detail: str | None = None
    result: Any = None
    schedules: tuple[Schedule, ...] | None = None
    truncated: bool | None = None
    id: Id | None = None
