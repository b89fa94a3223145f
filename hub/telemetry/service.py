"""Samples in the database: stored in groups, read as series, dropped when old.

Rules: retention deletes a bounded number of rows a unit, and nothing at all while the newest sample
lies in the future (the clock went back). Rows of machines are changed in the order of their ids:
units of two processes wait for one another, and neither for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.db.rows import affected
from hub.telemetry.models import FIGURES, ROLLUP_MS, Rollup, Sample
from hub.telemetry.rollups import COLUMNS

PRUNE_ROWS = 5000
FUTURE_MS = 300_000
MAX_POINTS = 2000


class Taken(NamedTuple):
    """A machine's newest sample: what changes on its row, and the figures."""

    tenant_id: str
    asset_id: str
    at_ms: int
    changes: dict[str, Any]
    figures: dict[str, float | None]


def store(session: Session, taken: Sequence[Taken]) -> None:
    """Store samples, and what they say of their machines."""
    rows = [
        {"tenant_id": one.tenant_id, "asset_id": one.asset_id, "at_ms": one.at_ms, **one.figures}
        for one in taken
    ]
    session.execute(insert(Sample), rows)
    for shape in _by_shape(taken):
        session.execute(update(Asset), shape)


def prune(session: Session, now_ms: int, raw_ms: int, rollup_ms: int) -> int:
    """Drop what is too old, a bounded number of rows; return how many."""
    newest = session.scalar(select(func.max(Sample.at_ms)))
    if newest is not None and newest > now_ms + FUTURE_MS:
        return 0
    old = select(Sample.seq).where(Sample.at_ms < now_ms - raw_ms).limit(PRUNE_ROWS)
    gone = affected(session, delete(Sample).where(Sample.seq.in_(old)))
    return gone + affected(session, delete(Rollup).where(Rollup.at_ms < now_ms - rollup_ms))


def series(session: Session, asset_id: str, start_ms: int, end_ms: int, raw_from_ms: int) -> Any:
    """Return the points of a machine between two stamps: samples while there are, else rollups.

    Where there are more than it reads, the newest count.

    Returns:
        step in milliseconds (0: as they came), and rows of `at_ms` and the figures.
    """
    table: Any = Sample if start_ms >= raw_from_ms else Rollup
    columns = FIGURES if table is Sample else COLUMNS
    rows = session.execute(
        select(table.at_ms, *(getattr(table, name) for name in columns))
        .where(table.asset_id == asset_id, table.at_ms >= start_ms, table.at_ms < end_ms)
        .order_by(table.at_ms.desc())
        .limit(MAX_POINTS * 5)
    ).all()
    step = 0 if table is Sample else ROLLUP_MS
    every = -(-len(rows) // MAX_POINTS) or 1
    return step * every, ("at_ms", *columns), [tuple(row) for row in rows[::every][::-1]]


def _by_shape(taken: Sequence[Taken]) -> list[list[dict[str, Any]]]:
    """Group the changes by their keys: one statement takes rows of one shape."""
    shapes: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in sorted(taken, key=lambda one: one.asset_id):
        shapes.setdefault(tuple(sorted(one.changes)), []).append(
            {"id": one.asset_id, **one.changes}
        )
    return list(shapes.values())
