"""Samples that ride on beats, into the same tables as those of live links.

Rules: each at its own stamp, so that an outage is filled in afterwards; a stamp that lies in the
future, or cannot be read, is the beat's; one that the machine has already is not stored again (a
beat whose answer was lost comes with the same samples). The newest stands on the machine's row;
what comes late is rolled up after all.
Source: contract part 2 (`metrics`), 1.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.heartbeat.identification import Known
from hub.telemetry import rollups
from hub.telemetry.figures import figures, kept, texts
from hub.telemetry.models import Sample as Row
from wire import bodies
from wire.fields import Stamp
from wire.telemetry import Sample

FIGURES_OF_ASSET = ("cpu", "mem_percent", "disk_percent")
TEXTS_OF_ASSET = ("platform", "release", "arch", "agent_version")
Brought = tuple[str, str, tuple[Sample, ...]]
"""Tenant, machine, and its samples, newest last."""


def keep(session: Session, known: Known, asset: Asset, samples: tuple[Sample, ...]) -> None:
    """Store what a beat brought; `asset` is the machine's row, seen just now."""
    assert asset.seen_ms is not None
    store(session, [(known.tenant_id, known.asset_id, samples)], asset.seen_ms)
    for name, value in told(samples[-1]).items():
        setattr(asset, name, value)


def store(session: Session, brought: Sequence[Brought], now_ms: int) -> None:
    """Store the samples of some beats, save those that are there."""
    rows = {
        (asset_id, at_ms): {"tenant_id": tenant_id, "asset_id": asset_id, "at_ms": at_ms}
        | figures(one, None)
        for tenant_id, asset_id, samples in brought
        for one in samples
        for at_ms in (_at_ms(one.ts, now_ms),)
    }
    if not rows:
        return
    seen = {
        "assets": sorted({asset_id for asset_id, _ in rows}),
        "stamps": sorted({at_ms for _, at_ms in rows}),
    }
    for row in session.execute(_THERE, seen):
        rows.pop((row.asset_id, row.at_ms), None)
    if rows:
        session.execute(insert(Row.__table__), list(rows.values()))  # type: ignore[arg-type]
        rollups.roll_up_late(session, rows, now_ms)


def told(newest: Sample) -> dict[str, Any]:
    """Return what lists of machines show of a sample, by the column of the machine's row."""
    found, said = figures(newest, None), texts(newest)
    row: dict[str, Any] = {"sample": kept(newest)}
    row |= {name: found[name] for name in FIGURES_OF_ASSET}
    return row | {name: said[name] for name in TEXTS_OF_ASSET if name in said}


def _at_ms(stamp: Stamp | None, now_ms: int) -> int:
    try:
        at_ms = int(bodies.wall_s(stamp) * 1000) if isinstance(stamp, str) else int(stamp or 0)
    except (ValueError, OverflowError):
        return now_ms
    return at_ms if 0 < at_ms <= now_ms else now_ms


_TABLE = Row.__table__.c
_THERE = select(_TABLE.asset_id, _TABLE.at_ms).where(
    _TABLE.asset_id.in_(bindparam("assets", expanding=True)),
    _TABLE.at_ms.in_(bindparam("stamps", expanding=True)),
)
