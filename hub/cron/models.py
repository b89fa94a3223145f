"""Crontabs that were seen on machines or installed there; versions are only ever added."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class Crontab(TenantOwned, Table):
    """One version of one machine's crontab."""

    __tablename__ = "crontabs"
    __table_args__ = (Index("ix_crontabs_of_asset", "tenant_id", "asset_id", "id"),)

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"))
    job_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    text: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    origin: Mapped[str] = mapped_column(String(8))
    """`seen`: read from the machine; `set`: installed by us."""
    made_by: Mapped[str] = mapped_column(String(256))
    at_ms: Mapped[int]
