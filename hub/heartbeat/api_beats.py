"""The route of the beat, and what is read of inventories.

Source: docs/reference/http.rst; docs/reference/api.rst.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from hub.clock import iso
from hub.heartbeat import inventories, notices
from hub.heartbeat.agent_requests import agent_may, answer, documented, read_body
from hub.heartbeat.identification import Shown
from hub.heartbeat.plain_beats import Asked
from hub.requests import Caller, TheHub, may
from wire import limits, paths
from wire.heartbeat import HeartbeatRequest, HeartbeatResponse

router = APIRouter(tags=["heartbeat"])
VersionId = Annotated[str, Query(max_length=64)]


@router.post(paths.HEARTBEAT, **documented(HeartbeatRequest, HeartbeatResponse))
async def heartbeat(
    hub: TheHub, request: Request, shown: Shown = agent_may("agent.beat")
) -> Response:
    """Take a beat in; 200 means that everything in it is stored."""
    beat = await read_body(request, HeartbeatRequest, limits.MAX_BEAT_BYTES)
    taken = await hub.beats.ask(Asked(shown, beat))
    if taken.refusal is not None:
        raise taken.refusal
    assert taken.response is not None
    notices.beaten(hub, taken)
    if beat.inventory is not None:
        notices.inventoried(hub, taken)
    for command in taken.moved:
        notices.moved(hub, command)
    return answer(taken.response)


class VersionView(BaseModel):
    """An inventory that is kept, without its body."""

    id: str
    digest: str
    seen_at: str


class InventoryView(VersionView):
    """An inventory."""

    inventory: dict[str, Any]


class Change(BaseModel):
    """One thing that is not as it was: `added`, `removed` or `changed`."""

    section: str
    change: str
    key: str
    before: Any
    after: Any


class Difference(BaseModel):
    """What changed from one version to another."""

    before: VersionView
    after: VersionView
    changes: list[Change]


@router.get("/api/v1/agents/{asset_id}/inventory")
async def read_inventory(
    hub: TheHub,
    asset_id: str,
    version: VersionId | None = None,
    caller: Caller = may("agents.read"),
) -> InventoryView:
    """Read a machine's inventory: the newest, or one by its id."""
    kept = await hub.database.read(caller.scope, inventories.version, asset_id, version)
    return InventoryView(
        id=kept.id, digest=kept.digest, seen_at=iso(kept.seen_ms), inventory=inventories.body(kept)
    )


@router.get("/api/v1/agents/{asset_id}/inventory/versions")
async def list_versions(
    hub: TheHub, asset_id: str, caller: Caller = may("agents.read")
) -> list[VersionView]:
    """List a machine's inventories, newest first."""
    kept = await hub.database.read(caller.scope, inventories.versions, asset_id)
    return [VersionView(id=one.id, digest=one.digest, seen_at=iso(one.seen_ms)) for one in kept]


@router.get("/api/v1/agents/{asset_id}/inventory/difference")
async def read_difference(
    hub: TheHub,
    asset_id: str,
    before: VersionId,
    after: VersionId | None = None,
    caller: Caller = may("agents.read"),
) -> Difference:
    """Tell what changed from one inventory to another, by default to the newest."""
    old = await hub.database.read(caller.scope, inventories.version, asset_id, before)
    new = await hub.database.read(caller.scope, inventories.version, asset_id, after)
    changes = inventories.difference(inventories.body(old), inventories.body(new))
    return Difference(
        before=VersionView(id=old.id, digest=old.digest, seen_at=iso(old.seen_ms)),
        after=VersionView(id=new.id, digest=new.digest, seen_at=iso(new.seen_ms)),
        changes=[Change(**change) for change in changes],
    )
