"""An alert as people and programs see it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from hub.alerts.models import Alert
from hub.clock import iso, iso_or_none

StateName = Literal["open", "acknowledged", "resolved"]


class AlertOut(BaseModel):
    """One alert."""

    id: str
    asset_id: str | None
    asset_name: str
    kind: str
    state: StateName
    summary: str
    raised_at: str
    seen_at: str
    acknowledged_at: str | None
    acknowledged_by: str | None
    resolved_at: str | None

    @classmethod
    def of(cls, alert: Alert) -> AlertOut:
        """Show a row."""
        return cls(
            id=alert.id,
            asset_id=alert.asset_id,
            asset_name=alert.asset_name,
            kind=alert.kind,
            state=_state(alert),
            summary=alert.summary,
            raised_at=iso(alert.raised_ms),
            seen_at=iso(alert.seen_ms),
            acknowledged_at=iso_or_none(alert.acknowledged_ms),
            acknowledged_by=alert.acknowledged_by,
            resolved_at=iso_or_none(alert.resolved_ms),
        )


def _state(alert: Alert) -> StateName:
    if alert.resolved_ms is not None:
        return "resolved"
    return "open" if alert.acknowledged_ms is None else "acknowledged"
