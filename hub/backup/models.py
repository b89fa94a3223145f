"""The plans of each machine, with what is known of them, and the schedules that it has told.

Rules: `id` is the plan's key on the wire (`planId`). What was asked for never changes: another
backup is another plan. `version` counts how often it was planned, so that nobody approves what they
have not seen. `progress` is the newest that was worth a write; the last word is in memory.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned

PATH_CHARS = 4096
DETAIL_CHARS = 2000


class BackupPlan(TenantOwned, Table):
    """What is copied where, whether it may be, and how it went last."""

    __tablename__ = "backup_plans"
    __table_args__ = (Index("ix_backup_plans_of_asset", "tenant_id", "asset_id", "id"),)

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"))
    name: Mapped[str] = mapped_column(String(128))
    source_dirs: Mapped[list[str]]
    dest_root: Mapped[str] = mapped_column(String(PATH_CHARS))
    host: Mapped[str | None] = mapped_column(String(300))
    remote_user: Mapped[str | None] = mapped_column(String(128))
    port: Mapped[int | None]
    ignore_globs: Mapped[list[str]]
    layout: Mapped[str | None] = mapped_column(String(16))
    """None: as the machine's owner has it."""
    state: Mapped[str] = mapped_column(String(16))
    """`draft` until it is planned, `planned`, `approved`."""
    version: Mapped[int]
    created_ms: Mapped[int]
    created_by: Mapped[str] = mapped_column(String(256))
    planned_ms: Mapped[int | None]
    found: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    plan_job_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    plan_error: Mapped[str | None] = mapped_column(String(64))
    plan_detail: Mapped[str | None] = mapped_column(String(DETAIL_CHARS))
    approved_ms: Mapped[int | None]
    approved_by: Mapped[str | None] = mapped_column(String(256))
    last_job_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    last_ms: Mapped[int | None]
    last_state: Mapped[str | None] = mapped_column(String(16))
    """`succeeded`, `partial`, `failed`, `cancelled`, `expired` or `unknown`."""
    last_error: Mapped[str | None] = mapped_column(String(64))
    last_detail: Mapped[str | None] = mapped_column(String(DETAIL_CHARS))
    last_result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    success_ms: Mapped[int | None]
    verified_ms: Mapped[int | None]
    is_verified: Mapped[bool | None]
    is_late: Mapped[bool]
    """What the machine itself says: its last success is too old."""
    overdue_ms: Mapped[int | None] = mapped_column(index=True)
    """From when on it has not run when its schedules say; null: nothing is scheduled."""
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    progress_ms: Mapped[int | None]
    removed_ms: Mapped[int | None]


class BackupSchedules(TenantOwned, Table):
    """What a machine runs by itself, as it was last told or set."""

    __tablename__ = "backup_schedules"

    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"), primary_key=True)
    schedules: Mapped[list[Any]]
    """`{id, plan_id, cron, tz, enabled, since_ms}`; `since_ms`: since when the hub knows it so."""
    told_ms: Mapped[int]
