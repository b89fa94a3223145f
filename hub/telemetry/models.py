"""Samples as they came, and their rollups over five minutes.

Rules: stamps are the hub's, when a sample came: a machine's clock orders nothing here. A figure
that a machine could not have is NULL. A rollup has the mean of each figure and the worst of those
that alarm.
"""

from __future__ import annotations

from sqlalchemy import Float, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, SEQUENCE, Table, TenantOwned

ROLLUP_MS = 300_000
FIGURES = (
    "cpu",
    "mem_percent",
    "mem_used",
    "load1",
    "disk_percent",
    "rx_bps",
    "tx_bps",
    "rtt_ms",
)
WORST = ("cpu", "mem_percent", "disk_percent", "rtt_ms")


class Sample(TenantOwned, Table):
    """One sample of one machine."""

    __tablename__ = "samples"
    __table_args__ = (
        Index("ix_samples_asset", "asset_id", "at_ms"),
        Index("ix_samples_at", "at_ms"),
    )

    seq: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS))  # read by machine: no index here
    asset_id: Mapped[str] = mapped_column(String(ID_CHARS))
    at_ms: Mapped[int]
    cpu: Mapped[float | None] = mapped_column(Float)
    mem_percent: Mapped[float | None] = mapped_column(Float)
    mem_used: Mapped[float | None] = mapped_column(Float)
    load1: Mapped[float | None] = mapped_column(Float)
    disk_percent: Mapped[float | None] = mapped_column(Float)
    rx_bps: Mapped[float | None] = mapped_column(Float)
    tx_bps: Mapped[float | None] = mapped_column(Float)
    rtt_ms: Mapped[float | None] = mapped_column(Float)


class Rollup(TenantOwned, Table):
    """Five minutes of one machine; `at_ms` is their start."""

    __tablename__ = "rollups"
    __table_args__ = (Index("ix_rollups_at", "at_ms"),)

    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS))
    asset_id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    at_ms: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]
    cpu: Mapped[float | None] = mapped_column(Float)
    cpu_max: Mapped[float | None] = mapped_column(Float)
    mem_percent: Mapped[float | None] = mapped_column(Float)
    mem_percent_max: Mapped[float | None] = mapped_column(Float)
    mem_used: Mapped[float | None] = mapped_column(Float)
    load1: Mapped[float | None] = mapped_column(Float)
    disk_percent: Mapped[float | None] = mapped_column(Float)
    disk_percent_max: Mapped[float | None] = mapped_column(Float)
    rx_bps: Mapped[float | None] = mapped_column(Float)
    tx_bps: Mapped[float | None] = mapped_column(Float)
    rtt_ms: Mapped[float | None] = mapped_column(Float)
    rtt_ms_max: Mapped[float | None] = mapped_column(Float)
