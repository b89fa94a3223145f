"""Samples become rollups over five minutes, and again where one comes late.

Rules: a rollup is written when its five minutes are over. Samples of an outage come afterwards, by
the heartbeat: the five minutes that they lie in are rolled up once more; those of which samples are
gone already stay as they are, rather than lose what they knew.
Source: issue 5 "Heartbeat link" (samples from an outage are backfilled).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.telemetry.models import FIGURES, ROLLUP_MS, WORST, Rollup, Sample

SETTLE_MS = 90_000
"""A beat brings what was sampled since the one before it."""
COLUMNS = (*FIGURES, *(f"{name}_max" for name in WORST))
_T, _R = Sample.__table__.c, Rollup.__table__.c
_BUCKET = _T.at_ms - _T.at_ms % ROLLUP_MS
_MEANS = select(
    _T.tenant_id,
    _T.asset_id,
    _BUCKET,
    func.count(),
    *(func.avg(_T[name]) for name in FIGURES),
    *(func.max(_T[name]) for name in WORST),
).group_by(_T.tenant_id, _T.asset_id, _BUCKET)


def roll_up(session: Session, now_ms: int) -> None:
    """Write the rollups of whole five minutes that have none."""
    end = _end(now_ms)
    last = _last(session, end)
    first = session.scalar(select(func.min(Sample.at_ms)).where(Sample.at_ms < end))
    if first is None:
        return
    start = max(first // ROLLUP_MS * ROLLUP_MS, -1 if last is None else last + ROLLUP_MS)
    if start < end:
        session.execute(_written(session, _MEANS.where(_T.at_ms >= start, _T.at_ms < end)))


def roll_up_late(session: Session, stored: Iterable[tuple[str, int]], now_ms: int) -> None:
    """Roll up again where samples that were stored just now came late.

    Args:
        stored: machine and stamp of each.
    """
    end = _end(now_ms)
    late = {(asset_id, at - at % ROLLUP_MS) for asset_id, at in stored if at < end}
    last = _last(session, end) if late else None
    again = [
        {"of_asset": asset_id, "since_ms": at_ms, "until_ms": at_ms + ROLLUP_MS}
        for asset_id, at_ms in sorted(late)
        if last is not None and at_ms <= last
    ]
    if again:
        means = _MEANS.where(
            _T.asset_id == bindparam("of_asset"),
            _T.at_ms >= bindparam("since_ms"),
            _T.at_ms < bindparam("until_ms"),
        )
        session.execute(_written(session, means), again)


def _end(now_ms: int) -> int:
    return (now_ms - SETTLE_MS) // ROLLUP_MS * ROLLUP_MS


def _last(session: Session, end: int) -> int | None:
    """Return until where `roll_up` has come; what lies behind is its own to do."""
    return session.scalar(select(func.max(Rollup.at_ms)).where(Rollup.at_ms < end))


def _written(session: Session, means: Select[Any]) -> Any:
    is_postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if is_postgres else sqlite.insert
    made = insert(Rollup.__table__).from_select(  # type: ignore[arg-type]
        ["tenant_id", "asset_id", "at_ms", "count", *COLUMNS], means
    )
    return made.on_conflict_do_update(
        index_elements=[_R.asset_id, _R.at_ms],
        set_={name: made.excluded[name] for name in ("count", *COLUMNS)},
        where=made.excluded["count"] >= _R["count"],
    )
