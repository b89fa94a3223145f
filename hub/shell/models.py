"""One row per shell session, kept after its end; what it printed is in its recording.

Rules: ids are never used again; `wanted` is why the hub wants it over, from the moment it does.
"""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class ShellSession(TenantOwned, Table):
    """One session."""

    __tablename__ = "shell_sessions"
    __table_args__ = (
        Index("ix_shell_sessions_asset", "tenant_id", "asset_id", "id"),
        Index("ix_shell_sessions_state", "state", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"))
    asset_name: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[str] = mapped_column(String(ID_CHARS), index=True)
    user_name: Mapped[str] = mapped_column(String(128))
    purpose: Mapped[str] = mapped_column(String(255), default="")
    """What the operator said that it is for."""
    cols: Mapped[int]
    rows: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    wanted: Mapped[str | None] = mapped_column(String(32))
    end_reason: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[str | None] = mapped_column(String(512))
    code: Mapped[int | None]
    signal: Mapped[str | None] = mapped_column(String(32))
    opened_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    recording: Mapped[str] = mapped_column(String(16), default="open")
    """`open`, `complete`, `failed` or `deleted`."""
    recording_bytes: Mapped[int | None]
    recording_sha256: Mapped[str | None] = mapped_column(String(64))
    recording_truncated: Mapped[bool] = mapped_column(default=False)
