"""Crontabs over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import pages
from hub.admin.requests import Timing
from hub.agents import service as agents
from hub.clock import iso
from hub.cron import rows as cron_rows
from hub.cron import service
from hub.cron.models import Crontab
from hub.jobs.models import Job
from hub.jobs.views import JobOut
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/agents/{asset_id}/cron", tags=["cron"])
Text = Annotated[str, Field(max_length=service.MAX_CHARS)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VersionOut(BaseModel):
    """One version of a crontab, without its text."""

    id: str
    at: str
    origin: str
    made_by: str
    digest: str
    job_id: str | None

    @classmethod
    def of(cls, row: Crontab) -> VersionOut:
        """Show a row."""
        return cls(
            id=row.id,
            at=iso(row.at_ms),
            origin=row.origin,
            made_by=row.made_by,
            digest=row.digest,
            job_id=row.job_id,
        )


class RowOut(BaseModel):
    """One line of a crontab, read."""

    line: int
    kind: str
    text: str
    schedule: str | None
    command: str | None
    words: str | None
    zone: str | None
    zone_source: str | None
    next_runs: list[str]
    fault: str | None


class CrontabOut(BaseModel):
    """A crontab; `version` null: nobody has read it yet."""

    version: VersionOut | None
    text: str
    rows: list[RowOut]


class CrontabIn(Timing):
    """Another crontab; `expected`: the digest of the version that was edited."""

    text: Text
    expected: Digest | None = None


class DraftIn(BaseModel):
    """A crontab to compare."""

    text: Text


class DraftOut(BaseModel):
    """What a draft would change, against what is known of the machine."""

    diff: str
    rows: list[RowOut]


class UndoIn(Timing):
    """`version_id`: which version to install again; by default the one before the newest."""

    version_id: Annotated[str, Field(max_length=64)] | None = None


@router.get("")
async def show_crontab(hub: TheHub, asset_id: str, caller: Caller = may("cron.read")) -> CrontabOut:
    """Show the crontab as it was last read or installed."""
    return await hub.database.read(caller.scope, _known, asset_id)


@router.post("/read", status_code=201)
async def read_crontab(
    hub: TheHub, asset_id: str, body: Timing, caller: Caller = may("cron.write")
) -> JobOut:
    """Ask the machine for its crontab."""

    def unit(session: Session) -> Job:
        return hub.cron.read(session, caller, agents.get_asset(session, asset_id), body)

    return await _submitted(hub, caller, unit)


@router.put("", status_code=201)
async def install_crontab(
    hub: TheHub, asset_id: str, body: CrontabIn, caller: Caller = may("cron.write")
) -> JobOut:
    """Replace the crontab."""

    def unit(session: Session) -> Job:
        asset = agents.get_asset(session, asset_id)
        return hub.cron.install(session, caller, asset, body.text, _timing(body), body.expected)

    return await _submitted(hub, caller, unit)


@router.post("/diff")
async def compare_crontab(
    hub: TheHub, asset_id: str, body: DraftIn, caller: Caller = may("cron.read")
) -> DraftOut:
    """Show what a draft would change; nothing is sent."""

    def unit(session: Session) -> DraftOut:
        asset = agents.get_asset(session, asset_id)
        known = service.newest(session, asset.id)
        text = service.checked(body.text)
        return DraftOut(
            diff=service.difference(known.text if known else "", text),
            rows=_rows(text, service.zone_of(session, asset.id)),
        )

    return await hub.database.read(caller.scope, unit)


@router.get("/history")
async def list_crontabs(
    hub: TheHub,
    asset_id: str,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("cron.read"),
) -> Page[VersionOut]:
    """List the versions, newest first."""

    def unit(session: Session) -> Page[VersionOut]:
        asset = agents.get_asset(session, asset_id)
        query = select(Crontab).where(Crontab.asset_id == asset.id)
        found, following = pages.fetch(
            session, query, (Crontab.id,), limit, cursor, descending=True
        )
        return Page(items=[VersionOut.of(row) for row in found], next=following)

    return await hub.database.read(caller.scope, unit)


@router.get("/history/{version_id}")
async def show_version(
    hub: TheHub, asset_id: str, version_id: str, caller: Caller = may("cron.read")
) -> CrontabOut:
    """Show one version."""

    def unit(session: Session) -> CrontabOut:
        asset = agents.get_asset(session, asset_id)
        row = service.version(session, asset, version_id)
        return _shown(session, asset_id, row)

    return await hub.database.read(caller.scope, unit)


@router.post("/undo", status_code=201)
async def undo_crontab(
    hub: TheHub, asset_id: str, body: UndoIn, caller: Caller = may("cron.write")
) -> JobOut:
    """Install an earlier version again."""

    def unit(session: Session) -> Job:
        asset = agents.get_asset(session, asset_id)
        return hub.cron.undo(session, caller, asset, _timing(body), body.version_id)

    return await _submitted(hub, caller, unit)


async def _submitted(hub: TheHub, caller: Caller, unit: Callable[[Session], Job]) -> JobOut:
    job = await hub.database.write(caller.scope, unit)
    hub.jobs.changed(job)
    return JobOut.of(job)


def _timing(body: Timing) -> Timing:
    return Timing(when_offline=body.when_offline, expires_in=body.expires_in)


def _known(session: Session, asset_id: str) -> CrontabOut:
    asset = agents.get_asset(session, asset_id)
    row = service.newest(session, asset.id)
    return _shown(session, asset_id, row)


def _shown(session: Session, asset_id: str, row: Crontab | None) -> CrontabOut:
    if row is None:
        return CrontabOut(version=None, text="", rows=[])
    zone = service.zone_of(session, asset_id)
    return CrontabOut(version=VersionOut.of(row), text=row.text, rows=_rows(row.text, zone))


def _rows(text: str, zone: str | None) -> list[RowOut]:
    return [RowOut(**asdict(row)) for row in cron_rows.rows(text, zone)]
