"""Routes of what people decide about machines: who waits, approve, revoke.

Rules: whoever approves is shown host, address and the key's fingerprint.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import pages
from hub.agents.models import Agent, Asset
from hub.clock import iso
from hub.heartbeat import approval
from hub.heartbeat.models import Enrolment
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1", tags=["enrolment"])


class Waiting(BaseModel):
    """A machine that waits for somebody's word."""

    asset_id: str
    agent_id: str
    name: str
    platform: str | None
    address: str | None
    key_fingerprint: str
    enrolled_at: str
    tags: list[str]


@router.get("/enrolment/pending")
async def list_pending(
    hub: TheHub,
    caller: Caller = may("enrolment.read"),
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> pages.Page[Waiting]:
    """List the machines that wait for approval."""
    items, following = await hub.database.read(caller.scope, _pending, limit, cursor)
    return pages.Page(items=items, next=following)


@router.post("/agents/{asset_id}/approve", status_code=204)
async def approve(hub: TheHub, asset_id: str, caller: Caller = may("agents.approve")) -> Response:
    """Let a waiting machine in; the credential that it had is retired."""
    for agent_id in await hub.database.write(caller.scope, approval.approve, caller, asset_id):
        await hub.links.cut(agent_id, "replaced")
    return Response(status_code=204)


@router.post("/agents/{asset_id}/revoke", status_code=204)
async def revoke(
    hub: TheHub, asset_id: str, waiting: bool = False, caller: Caller = may("agents.write")
) -> Response:
    """Make a machine's credentials worthless and cut its link; `waiting`: what waits alone."""
    work = approval.refuse if waiting else approval.revoke
    for agent_id in await hub.database.write(caller.scope, work, caller, asset_id):
        await hub.links.cut(agent_id, "revoked")
    return Response(status_code=204)


def _pending(session: Session, limit: int, cursor: str | None) -> tuple[list[Waiting], str | None]:
    rows, following = pages.fetch(session, approval.pending(), (Enrolment.agent_id,), limit, cursor)
    ids = [row.agent_id for row in rows]
    found = {
        agent.id: (agent, asset)
        for agent, asset in session.execute(
            select(Agent, Asset).join(Asset, Asset.id == Agent.asset_id).where(Agent.id.in_(ids))
        )
    }
    return [_waiting(row, *found[row.agent_id]) for row in rows], following


def _waiting(row: Enrolment, agent: Agent, asset: Asset) -> Waiting:
    return Waiting(
        asset_id=asset.id,
        agent_id=agent.client_id,
        name=asset.name,
        platform=asset.platform,
        address=row.address,
        key_fingerprint=row.key_thumbprint,
        enrolled_at=iso(row.enrolled_ms),
        tags=asset.tags,
    )
