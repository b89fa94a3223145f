"""A machine as people and programs see it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from hub.agents.models import Agent, Asset, PresenceChange
from hub.clock import iso, iso_or_none

PresenceName = Literal["online", "stale", "offline", "conflict"]


class AgentOut(BaseModel):
    """One machine and its credential. A figure that nobody knows is null."""

    asset_id: str
    tenant_id: str
    agent_id: str | None
    client_id: str | None
    credential: str | None
    """`pending`, `active`, `revoked` or `replaced`."""
    name: str
    tags: list[str]
    presence: PresenceName
    presence_since: str | None
    seen_at: str | None
    platform: str | None
    release: str | None
    arch: str | None
    version: str | None
    rtt_ms: float | None
    cpu: float | None
    mem_percent: float | None
    disk_percent: float | None
    last_backup_at: str | None
    last_backup_ok: bool | None
    created_at: str

    @classmethod
    def of(cls, asset: Asset, agent: Agent | None) -> AgentOut:
        """Show a row."""
        return cls(**_fields(asset, agent))


class AgentDetail(AgentOut):
    """One machine in full: its newest sample, and what is known of its live link."""

    sample: dict[str, Any]
    link: LinkOut | None

    @classmethod
    def in_full(cls, asset: Asset, agent: Agent | None, link: LinkOut | None) -> AgentDetail:
        """Show a row and its link."""
        return cls(**_fields(asset, agent), sample=asset.sample, link=link)


class LinkOut(BaseModel):
    """A live link. `features` null: an agent that is not ours."""

    connected_at: str
    address: str
    rtt_ms: float | None
    version: str | None
    features: list[str] | None
    jobs: list[dict[str, Any]]


class PresenceOut(BaseModel):
    """From when on a machine was what."""

    at: str
    presence: PresenceName
    reason: str
    address: str | None

    @classmethod
    def of(cls, row: PresenceChange) -> PresenceOut:
        """Show a row."""
        return cls(
            at=iso(row.at_ms),
            presence=row.state,  # type: ignore[arg-type]
            reason=row.reason,
            address=row.address,
        )


def _fields(asset: Asset, agent: Agent | None) -> dict[str, Any]:
    return {
        "asset_id": asset.id,
        "tenant_id": asset.tenant_id,
        "agent_id": None if agent is None else agent.id,
        "client_id": None if agent is None else agent.client_id,
        "credential": None if agent is None else agent.state,
        "name": asset.name,
        "tags": asset.tags,
        "presence": asset.presence,
        "presence_since": iso_or_none(asset.presence_since_ms),
        "seen_at": iso_or_none(asset.seen_ms),
        "platform": asset.platform,
        "release": asset.release,
        "arch": asset.arch,
        "version": asset.agent_version,
        "rtt_ms": asset.rtt_ms,
        "cpu": asset.cpu,
        "mem_percent": asset.mem_percent,
        "disk_percent": asset.disk_percent,
        "last_backup_at": iso_or_none(asset.last_backup_ms),
        "last_backup_ok": asset.last_backup_ok,
        "created_at": iso(asset.created_ms),
    }
