"""Alerts over HTTP: list, acknowledge, and where they go."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from hub import pages
from hub.alerts import service
from hub.alerts.models import Alert
from hub.alerts.views import AlertOut, StateName
from hub.authorize import Principal, Role
from hub.errors import ConflictError
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])
Name = Annotated[str | None, Query(max_length=64)]


class TargetOut(BaseModel):
    """Where alerts go: its scheme alone, the rest is secret; null: nowhere."""

    url: str | None


class TargetIn(BaseModel):
    """Where alerts go, as Apprise writes it; null: nowhere."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(min_length=4, max_length=2048)] | None


@router.get("")
async def list_alerts(
    hub: TheHub,
    state: Annotated[list[StateName] | None, Query(max_length=3)] = None,
    asset_id: Name = None,
    kind: Name = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("alerts.read"),
) -> Page[AlertOut]:
    """List alerts, newest first."""

    def unit(session: Session) -> Page[AlertOut]:
        query = select(Alert)
        if state:
            query = query.where(_is_in(state))
        for column, value in ((Alert.asset_id, asset_id), (Alert.kind, kind)):
            if value is not None:
                query = query.where(column == value)
        rows, following = pages.fetch(session, query, (Alert.id,), limit, cursor, descending=True)
        return Page(items=[AlertOut.of(row) for row in rows], next=following)

    return await hub.database.read(caller.scope, unit)


@router.post("/{alert_id}/acknowledge")
async def acknowledge_alert(
    hub: TheHub, alert_id: str, caller: Caller = may("alerts.acknowledge")
) -> AlertOut:
    """Say that somebody looks after it."""
    alert = await hub.database.write(caller.scope, service.acknowledge, caller, alert_id)
    hub.alerts.changed(alert)
    return AlertOut.of(alert)


@router.get("/target")
async def show_target(
    hub: TheHub, tenant_id: Name = None, caller: Caller = may("alerts.read")
) -> TargetOut:
    """Show where alerts go."""
    chosen = _tenant(caller, tenant_id)
    url = await hub.database.read(None, service.target, hub.keyring, chosen)
    return TargetOut(url=None if url is None else service.shown_target(url))


@router.put("/target")
async def set_target(
    hub: TheHub, body: TargetIn, tenant_id: Name = None, caller: Caller = may("alerts.write")
) -> TargetOut:
    """Set where alerts go."""
    chosen = _tenant(caller, tenant_id)
    await hub.database.write(None, service.set_target, hub.keyring, caller, chosen, body.url)
    return TargetOut(url=None if body.url is None else service.shown_target(body.url))


@router.post("/target/test", status_code=204)
async def try_target(
    hub: TheHub, tenant_id: Name = None, caller: Caller = may("alerts.write")
) -> None:
    """Send a message there now."""
    chosen = _tenant(caller, tenant_id)
    url = await hub.database.read(None, service.target, hub.keyring, chosen)
    if url is None:
        raise ConflictError("no target is set", code="no_target")
    body = f"asked for by {caller.name}"
    title = "a test of Jackline's alerts"
    if not await hub.alerts.sending.send(chosen, url, title, body):
        raise ConflictError("the target did not take the message", code="target_failed")


def _tenant(caller: Principal, asked: str | None) -> str:
    return asked if asked is not None and caller.role is Role.SYSTEM_ADMIN else caller.tenant_id


def _is_in(states: list[StateName]) -> ColumnElement[bool]:
    is_resolved = Alert.resolved_ms.is_not(None)
    is_seen = Alert.acknowledged_ms.is_not(None)
    by_name = {
        "open": and_(~is_resolved, ~is_seen),
        "acknowledged": and_(~is_resolved, is_seen),
        "resolved": is_resolved,
    }
    return or_(*(by_name[state] for state in states))
