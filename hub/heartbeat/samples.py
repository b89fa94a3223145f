"""Samples that ride on beats, into the same tables as those of live links.

Rules: each at its own stamp, so that an outage is filled in afterwards; a stamp that lies in the
future, or cannot be read, is the beat's; one that the machine has already is not stored again (a
beat whose answer was lost comes with the same samples). The newest stands on the machine's row.
Source: contract part 2 (`metrics`), 1.9.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.heartbeat.identification import Known
from hub.telemetry.figures import figures, kept, texts
from hub.telemetry.models import Sample as Row
from wire import bodies
from wire.fields import Stamp
from wire.telemetry import Sample

_OF_ASSET = ("cpu", "mem_percent", "disk_percent")
_TEXTS = ("platform", "release", "arch", "agent_version")


def keep(session: Session, known: Known, asset: Asset, samples: tuple[Sample, ...]) -> None:
    """Store what a beat brought; `asset` is the machine's row, seen just now."""
    assert asset.seen_ms is not None
    stamped = {_at_ms(one.ts, asset.seen_ms): one for one in samples}
    there = session.scalars(
        select(Row.at_ms).where(Row.asset_id == known.asset_id, Row.at_ms.in_(stamped))
    )
    for at_ms in there.all():
        del stamped[at_ms]
    if stamped:
        session.execute(
            insert(Row), [_row(known, at_ms, stamped[at_ms]) for at_ms in sorted(stamped)]
        )
    _show(asset, samples[-1])


def _row(known: Known, at_ms: int, sample: Sample) -> dict[str, Any]:
    ids = {"tenant_id": known.tenant_id, "asset_id": known.asset_id, "at_ms": at_ms}
    return ids | figures(sample, None)


def _show(asset: Asset, newest: Sample) -> None:
    """Keep what lists of machines show up to date."""
    asset.sample = kept(newest)
    found, said = figures(newest, None), texts(newest)
    for name in _OF_ASSET:
        setattr(asset, name, found[name])
    for name in _TEXTS:
        if name in said:
            setattr(asset, name, said[name])


def _at_ms(stamp: Stamp | None, now_ms: int) -> int:
    try:
        at_ms = int(bodies.wall_s(stamp) * 1000) if isinstance(stamp, str) else int(stamp or 0)
    except (ValueError, OverflowError):
        return now_ms
    return at_ms if 0 < at_ms <= now_ms else now_ms
