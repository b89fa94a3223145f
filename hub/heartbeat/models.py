"""Enrolment, certificates, inventories, commands, artifacts.

Rules: secrets as SHA-256 alone; whatever may happen once is decided by a conditional UPDATE or a
unique key. An enrolment is what an agent's row lacks: how it came, and where its beats stand.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class EnrolmentToken(TenantOwned, Table):
    """Lets `uses_max` machines in; only its SHA-256 is kept."""

    __tablename__ = "enrolment_tokens"

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    label: Mapped[str] = mapped_column(String(128), default="")
    tags: Mapped[list[str]] = mapped_column(default=list)
    needs_approval: Mapped[bool] = mapped_column(default=False)
    uses: Mapped[int] = mapped_column(default=0)
    uses_max: Mapped[int] = mapped_column(default=1)
    created_by: Mapped[str] = mapped_column(String(256))
    created_ms: Mapped[int]
    expires_ms: Mapped[int]
    revoked_ms: Mapped[int | None]


class EnrolmentRules(TenantOwned, Table):
    """What a tenant decides beforehand: machines with one of these tags need no approval."""

    __tablename__ = "enrolment_rules"

    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    auto_approve_tags: Mapped[list[str]] = mapped_column(default=list)


class Enrolment(TenantOwned, Table):
    """How an agent came, and where its beats stand.

    The same key may come again by the same token until `closed_ms`; `reissues` makes a nonce good
    once. `boots` has the highest `seq` of each of the last boots.
    """

    __tablename__ = "enrolments"
    __table_args__ = (UniqueConstraint("source_id", "key_thumbprint"),)

    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"), primary_key=True)
    source_id: Mapped[str] = mapped_column(String(ID_CHARS))
    """The enrolment token's or the device code's."""
    key_thumbprint: Mapped[str] = mapped_column(String(64))
    bearer_digest: Mapped[str] = mapped_column(String(64), unique=True)
    address: Mapped[str | None] = mapped_column(String(64))
    reissues: Mapped[int] = mapped_column(default=0)
    enrolled_ms: Mapped[int]
    closed_ms: Mapped[int | None]
    boot_id: Mapped[str] = mapped_column(String(256))
    boots: Mapped[dict[str, Any]] = mapped_column(default=dict)
    beat_ms: Mapped[int | None]
    inventory_digest: Mapped[str | None] = mapped_column(String(64))


class Certificate(TenantOwned, Table):
    """A client certificate that was signed. `retired_ms`: when a newer one has taken its place."""

    __tablename__ = "certificates"

    serial: Mapped[str] = mapped_column(String(64), primary_key=True)
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"), index=True)
    key_thumbprint: Mapped[str] = mapped_column(String(64))
    not_before_ms: Mapped[int]
    not_after_ms: Mapped[int]
    used_ms: Mapped[int | None]
    """When it was first shown."""
    retired_ms: Mapped[int | None]
    revoked_ms: Mapped[int | None]


class InventoryVersion(TenantOwned, Table):
    """What a machine was made of, from `seen_ms` on; `body` is its JSON, zlib-compressed."""

    __tablename__ = "inventory_versions"
    __table_args__ = (Index("ix_inventory_asset", "asset_id", "id"),)

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"))
    digest: Mapped[str] = mapped_column(String(64))
    seen_ms: Mapped[int]
    body: Mapped[bytes] = mapped_column(LargeBinary)


class Command(TenantOwned, Table):
    """Something that an agent was asked to collect. States and errors: wire.commands."""

    __tablename__ = "commands"
    __table_args__ = (
        UniqueConstraint("tenant_id", "user_id", "idempotency_key"),
        Index("ix_commands_asset", "asset_id", "id"),
        Index("ix_commands_open", "state", "asset_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"))
    command_type: Mapped[str] = mapped_column(String(64))
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(String(16))
    when_offline: Mapped[str] = mapped_column(String(16))
    idempotency_key: Mapped[str] = mapped_column(String(256))
    body_digest: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(String(ID_CHARS))
    user_name: Mapped[str] = mapped_column(String(256))
    requested_ms: Mapped[int]
    expires_ms: Mapped[int]
    accepted_ms: Mapped[int | None]
    leased_ms: Mapped[int | None]
    """Until when the agent's turn is: offered again afterwards."""
    offers: Mapped[int] = mapped_column(default=0)
    started_ms: Mapped[int | None]
    finished_ms: Mapped[int | None]
    result_summary: Mapped[dict[str, Any] | None]
    artifact_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    error: Mapped[str | None] = mapped_column(String(256))
    skipped: Mapped[bool] = mapped_column(default=False)


class Artifact(TenantOwned, Table):
    """A large result; its bytes are in the artifact store under its id."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("command_id", "name", "sha256"),)

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"), index=True)
    command_id: Mapped[str] = mapped_column(ForeignKey("commands.id"))
    name: Mapped[str] = mapped_column(String(128))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int]
    created_ms: Mapped[int]
