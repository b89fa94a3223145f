"""Routes of machines: list, look, tag, forget, resolve a conflict, and their presence.

Rules: a revoked or forgotten machine's link is cut before the answer leaves. Every change is
audited in the machine's tenant, in the same unit of work.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import pages
from hub.agents import listing, service
from hub.agents.housekeeping import REVOKED
from hub.agents.links import Link
from hub.agents.listing import PlainText, SortKey, Tag
from hub.agents.models import Agent, Asset, PresenceChange
from hub.agents.views import AgentDetail, AgentOut, LinkOut, PresenceOut
from hub.assembly import Hub
from hub.audit import service as audit
from hub.clock import iso, now_ms
from hub.heartbeat import approval
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
AssetId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
Sort = Annotated[SortKey, Query()]


class Tags(BaseModel):
    """A machine's tags: these and no others."""

    tags: Annotated[list[Tag], Field(max_length=32)]


@router.get("")
async def list_agents(
    hub: TheHub,
    q: PlainText | None = None,
    presence: listing.Presences = None,
    tag: listing.Tags = None,
    platform: PlainText | None = None,
    version: PlainText | None = None,
    credential: Literal["pending", "active", "revoked"] | None = None,
    tenant_id: PlainText | None = None,
    sort: Sort = "name",
    order: Literal["asc", "desc"] = "asc",
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("agents.read"),
) -> Page[AgentOut]:
    """List machines: every filter must hold, `q` stands anywhere in name, system or tags."""
    wanted = listing.Filter(
        q=q, presence=presence, tag=tag, platform=platform, version=version,
        credential=credential, tenant_id=tenant_id,
    )  # fmt: skip
    ordered = listing.Order(sort, order == "desc")
    found, following = await hub.database.read(
        caller.scope, listing.page, wanted, ordered, limit, cursor
    )
    return Page(items=[AgentOut.of(*one) for one in found], next=following)


@router.get("/{asset_id}")
async def show_agent(
    hub: TheHub, asset_id: AssetId, caller: Caller = may("agents.read")
) -> AgentDetail:
    """Show one machine."""
    asset, agent = await hub.database.read(caller.scope, _look, asset_id)
    return _detail(hub, asset, agent)


@router.put("/{asset_id}/tags")
async def tag_agent(
    hub: TheHub, asset_id: AssetId, body: Tags, caller: Caller = may("agents.tag")
) -> AgentDetail:
    """Set a machine's tags."""
    asset, agent = await hub.database.write(caller.scope, _tag, caller, asset_id, body.tags)
    return _detail(hub, asset, agent)


@router.post("/{asset_id}/resolve")
async def resolve_conflict(
    hub: TheHub, asset_id: AssetId, caller: Caller = may("agents.approve")
) -> AgentDetail:
    """End an identity conflict, once the other machine has an identity of its own."""
    asset, agent = await hub.database.write(caller.scope, _resolve, caller, asset_id)
    hub.clones.forget(agent.id)
    return _detail(hub, asset, agent)


@router.delete("/{asset_id}", status_code=204)
async def delete_agent(
    hub: TheHub, asset_id: AssetId, caller: Caller = may("agents.write")
) -> None:
    """Forget a machine: its credential ends, its history stays in the audit log."""
    agent = await hub.database.write(caller.scope, _delete, caller, asset_id)
    if agent is not None:
        await hub.links.cut(agent.id, REVOKED)


@router.get("/{asset_id}/presence")
async def list_presence(
    hub: TheHub,
    asset_id: AssetId,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("agents.read"),
) -> Page[PresenceOut]:
    """List when a machine came, went or fell silent, newest first."""
    rows, following = await hub.database.read(caller.scope, _presence, asset_id, limit, cursor)
    return Page(items=[PresenceOut.of(row) for row in rows], next=following)


def _look(session: Session, asset_id: str) -> tuple[Asset, Agent | None]:
    return service.get_asset(session, asset_id), service.current_agent(session, asset_id)


def _tag(
    session: Session, caller: Caller, asset_id: str, tags: list[str]
) -> tuple[Asset, Agent | None]:
    asset = service.tag(session, asset_id, tags)
    of = ("asset", asset_id)
    audit.record(session, asset.tenant_id, caller, "agents.tag", of=of, tags=asset.tags)
    return asset, service.current_agent(session, asset_id)


def _resolve(session: Session, caller: Caller, asset_id: str) -> tuple[Asset, Agent]:
    agent = service.resolve(session, asset_id)
    of = ("asset", asset_id)
    audit.record(session, agent.tenant_id, caller, "agents.approve", of=of, what="resolved")
    return service.get_asset(session, asset_id), agent


def _delete(session: Session, caller: Caller, asset_id: str) -> Agent | None:
    asset = service.get_asset(session, asset_id)
    agent = service.current_agent(session, asset_id)
    if agent is not None and agent.state in ("active", "pending"):
        approval.revoke(session, caller, asset_id)
    asset.deleted_ms = now_ms()
    of = ("asset", asset_id)
    audit.record(
        session, asset.tenant_id, caller, "agents.write", of=of, what="deleted", name=asset.name
    )
    return agent


def _presence(
    session: Session, asset_id: str, limit: int, cursor: str | None
) -> tuple[list[PresenceChange], str | None]:
    service.get_asset(session, asset_id)
    query = select(PresenceChange).where(PresenceChange.asset_id == asset_id)
    return pages.fetch(session, query, (PresenceChange.seq,), limit, cursor, descending=True)


def _detail(hub: Hub, asset: Asset, agent: Agent | None) -> AgentDetail:
    link = hub.links.of(asset.id)
    return AgentDetail.in_full(asset, agent, None if link is None else _link(link))


def _link(link: Link) -> LinkOut:
    return LinkOut(
        connected_at=iso(link.connected_ms),
        address=link.address,
        rtt_ms=link.rtt_ms,
        version=link.version,
        features=None if link.features is None else sorted(link.features),
        jobs=[msgspec.to_builtins(job) for job in link.jobs],
    )
