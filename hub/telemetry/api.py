"""Routes of telemetry: a machine's figures over time.

Rules: samples as they came while they are kept, five-minute rollups before that; at most
MAX_POINTS points, evenly thinned.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.clock import iso, now_ms
from hub.errors import BadRequestError
from hub.requests import Caller, TheHub, may
from hub.telemetry import service

router = APIRouter(prefix="/api/v1/agents", tags=["telemetry"])
AssetId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class Series(BaseModel):
    """Columns and rows: `at_ms`, then the figures by their names; null where there is none."""

    start: str
    end: str
    step_ms: int
    """How far rows lie apart; 0: as samples came."""
    columns: list[str]
    rows: list[list[float | None]]


@router.get("/{asset_id}/telemetry")
async def show_series(
    hub: TheHub,
    asset_id: AssetId,
    start: datetime | None = None,
    end: datetime | None = None,
    caller: Caller = may("telemetry.read"),
) -> Series:
    """Show a machine's figures between two moments; the last hour by default."""
    end_ms = now_ms() if end is None else _ms(end)
    start_ms = end_ms - HOUR_MS if start is None else _ms(start)
    if start_ms >= end_ms:
        raise BadRequestError("start: must lie before end")
    raw_from_ms = now_ms() - hub.settings.telemetry_raw_hours * HOUR_MS
    step, columns, rows = await hub.database.read(
        caller.scope, _read, asset_id, start_ms, end_ms, max(raw_from_ms, end_ms - DAY_MS)
    )
    return Series(
        start=iso(start_ms),
        end=iso(end_ms),
        step_ms=step,
        columns=list(columns),
        rows=[list(row) for row in rows],
    )


def _read(session: Session, asset_id: str, *span: int) -> Any:
    agents.get_asset(session, asset_id)
    return service.series(session, asset_id, *span)


def _ms(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise BadRequestError("start and end: with a time zone, such as 2026-11-28T09:00:00Z")
    if not 1970 <= moment.year <= 9998:
        raise BadRequestError("start and end: within years 1970 to 9998")
    return int(moment.timestamp() * 1000)
