"""Alerts, one row from its raising to its end.

Rules: `open_key` is what an alert is about while it is open, null afterwards; it is unique, so that
two processes that see the same trouble raise it once. The two `*_told_ms` say which messages left.
"""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class Alert(TenantOwned, Table):
    """One thing that is, or was, wrong."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("tenant_id", "open_key"),
        Index("ix_alerts_of_asset", "tenant_id", "asset_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str | None] = mapped_column(ForeignKey("assets.id"))
    asset_name: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(32))
    open_key: Mapped[str | None] = mapped_column(String(160))
    summary: Mapped[str] = mapped_column(String(500))
    raised_ms: Mapped[int]
    seen_ms: Mapped[int]
    """When the trouble was last seen."""
    acknowledged_ms: Mapped[int | None]
    acknowledged_by: Mapped[str | None] = mapped_column(String(256))
    resolved_ms: Mapped[int | None]
    raised_told_ms: Mapped[int | None]
    resolved_told_ms: Mapped[int | None]
    tries: Mapped[int] = mapped_column(default=0)
    next_try_ms: Mapped[int | None] = mapped_column(index=True)
    """When a message is due; null: none is."""
