"""The audit log: one hash chain per tenant.

Rules: rows are only ever added; `seq` has no gaps within a tenant; `digest` covers the row and the
one before it. `AuditHead` is the chain's end, `AuditSeal` a signed head.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class AuditRow(TenantOwned, Table):
    """One request, refusal or result."""

    __tablename__ = "audit"
    __table_args__ = (
        UniqueConstraint("tenant_id", "seq"),
        Index("ix_audit_object", "tenant_id", "object_type", "object_id"),
    )

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    seq: Mapped[int]
    at_ms: Mapped[int]
    actor_kind: Mapped[str] = mapped_column(String(16))
    actor_id: Mapped[str] = mapped_column(String(ID_CHARS))
    actor_name: Mapped[str] = mapped_column(String(256))
    address: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(32))
    object_type: Mapped[str | None] = mapped_column(String(32))
    object_id: Mapped[str | None] = mapped_column(String(256))
    detail: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(String(64))


class AuditHead(TenantOwned, Table):
    """Where a tenant's chain ends; locked by whoever appends."""

    __tablename__ = "audit_heads"

    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    seq: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))


class AuditSeal(TenantOwned, Table):
    """A head that was signed: the chain up to `seq` was this at that time."""

    __tablename__ = "audit_seals"

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    seq: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    at_ms: Mapped[int]
    signature: Mapped[str] = mapped_column(String(128))
