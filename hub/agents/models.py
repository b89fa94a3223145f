"""Assets and agents.

Rules: an asset is a machine that a tenant knows and keeps its id through re-enrolment; an agent is
its current credential. `client_id` names the agent on the live link and is unique over all
tenants; the HMAC secret is sealed with the keyring (owner `agent:<id>`). Columns of the asset that
lists filter and sort by are kept up to date by whoever learns of a change.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, SEQUENCE, Table, TenantOwned


class Asset(TenantOwned, Table):
    """A machine."""

    __tablename__ = "assets"
    __table_args__ = (
        Index("ix_assets_name", "tenant_id", "name", "id"),
        Index("ix_assets_presence", "tenant_id", "presence", "id", "deleted_ms"),
        Index("ix_assets_seen", "tenant_id", "seen_ms", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    machine_id: Mapped[str | None] = mapped_column(String(128), index=True)
    tags: Mapped[list[str]] = mapped_column(default=list)
    platform: Mapped[str | None] = mapped_column(String(64))
    release: Mapped[str | None] = mapped_column(String(128))
    arch: Mapped[str | None] = mapped_column(String(32))
    agent_version: Mapped[str | None] = mapped_column(String(64))
    presence: Mapped[str] = mapped_column(String(16), default="offline")
    """`online`, `stale`, `offline` or `conflict`."""
    presence_since_ms: Mapped[int | None]
    seen_ms: Mapped[int | None]
    rtt_ms: Mapped[float | None]
    cpu: Mapped[float | None]
    mem_percent: Mapped[float | None]
    disk_percent: Mapped[float | None]
    sample: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The newest telemetry, as `stats` has it."""
    last_backup_ms: Mapped[int | None]
    last_backup_ok: Mapped[bool | None]
    created_ms: Mapped[int]
    deleted_ms: Mapped[int | None]


class Agent(TenantOwned, Table):
    """A machine's credential."""

    __tablename__ = "agents"
    __table_args__ = (Index("ix_agents_of_asset", "tenant_id", "asset_id", "client_id"),)

    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS))  # the index above begins with it
    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"), index=True)
    client_id: Mapped[str] = mapped_column(String(128), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    """`pending`, `active`, `revoked` or `replaced`."""
    secret_sealed: Mapped[str]
    created_ms: Mapped[int]
    approved_ms: Mapped[int | None]
    revoked_ms: Mapped[int | None] = mapped_column(index=True)
    boot_id: Mapped[str | None] = mapped_column(String(256))
    """The boot that its newest link came from, and the one before it."""
    boot_before: Mapped[str | None] = mapped_column(String(256))
    conflict_ms: Mapped[int | None]
    """Since when two machines use it, both alive."""


class UsedQuery(Table):
    """A signed connect query that was used; `sig` covers client and time."""

    __tablename__ = "used_queries"

    sig: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_ms: Mapped[int] = mapped_column(index=True)


class SeenEvent(Table):
    """A final event that was taken: it comes again after a lost acknowledgement, for a while."""

    __tablename__ = "seen_events"
    __table_args__ = (UniqueConstraint("agent_id", "event_id"),)

    seq: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    agent_id: Mapped[str] = mapped_column(String(ID_CHARS))
    event_id: Mapped[str] = mapped_column(String(256))
    at_ms: Mapped[int] = mapped_column(index=True)


class PresenceChange(TenantOwned, Table):
    """A machine came, went, or fell silent."""

    __tablename__ = "presence_changes"
    __table_args__ = (Index("ix_presence_changes_asset", "asset_id", "seq"),)

    seq: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS))  # read by machine: no index here
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id", ondelete="CASCADE"))
    at_ms: Mapped[int] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(64), default="")
    address: Mapped[str | None] = mapped_column(String(64))
