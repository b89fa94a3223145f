"""Key sync over HTTP: what a source has, what would change, and the change."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from hub.admin.requests import Timing
from hub.agents import service as agents
from hub.jobs.models import Job
from hub.jobs.views import JobOut
from hub.keys import source
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1", tags=["keys"])
User = Annotated[str, Field(min_length=1, max_length=39)]


class KeyOut(BaseModel):
    """A public key."""

    algorithm: str
    fingerprint: str


class SourceOut(BaseModel):
    """What a GitHub user has; `rejected`: lines that are no key, or a weak one."""

    url: str
    keys: list[KeyOut]
    rejected: int


class KeysIn(Timing):
    """Whose keys."""

    user: User


@router.get("/keys/{user}")
async def show_source(hub: TheHub, user: str, caller: Caller = may("keys.preview")) -> SourceOut:
    """Show the keys that a GitHub user has."""
    del caller
    found = await asyncio.to_thread(source.keys_of, hub.settings.keys_base_url, user)
    keys = [KeyOut(algorithm=key.algorithm, fingerprint=key.fingerprint) for key in found.keys]
    return SourceOut(url=found.url, keys=keys, rejected=found.rejected)


@router.post("/agents/{asset_id}/keys/preview", status_code=201)
async def preview_sync(
    hub: TheHub, asset_id: str, body: KeysIn, caller: Caller = may("keys.preview")
) -> JobOut:
    """Compare a user's keys with a machine's: the job's result has a `preview`."""
    await hub.database.read(caller.scope, agents.get_asset, asset_id)
    found = await asyncio.to_thread(source.keys_of, hub.settings.keys_base_url, body.user)

    def unit(session: Session) -> Job:
        asset = agents.get_asset(session, asset_id)
        return hub.keys.preview(session, caller, asset, body.user, found, _timing(body))

    job = await hub.database.write(caller.scope, unit)
    hub.jobs.changed(job)
    return JobOut.of(job)


@router.post("/agents/{asset_id}/keys/sync", status_code=201)
async def sync_keys(
    hub: TheHub, asset_id: str, body: KeysIn, caller: Caller = may("keys.sync")
) -> JobOut:
    """Let a machine add a user's keys."""
    source.url_of(hub.settings.keys_base_url, body.user)

    def unit(session: Session) -> Job:
        asset = agents.get_asset(session, asset_id)
        return hub.keys.sync(session, caller, asset, body.user, _timing(body))

    job = await hub.database.write(caller.scope, unit)
    hub.jobs.changed(job)
    return JobOut.of(job)


def _timing(body: KeysIn) -> Timing:
    return Timing(when_offline=body.when_offline, expires_in=body.expires_in)
