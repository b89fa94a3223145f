"""Jobs, one row each, from request to result.

Rules: `id` is the job's key on the wire (`jobId`), too. `seq` counts the jobs of one machine and is
the order in which they are handed out. `request` and `result` are the family's; no secret stands in
either. Stamps decide about expiry and deadlines, since both outlive a process.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class Job(TenantOwned, Table):
    """Something that one machine is asked to do, once."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("asset_id", "seq"),
        UniqueConstraint("tenant_id", "created_by", "idempotency_key"),
        Index("ix_jobs_of_asset", "tenant_id", "asset_id", "id"),
        Index("ix_jobs_of_state", "state", "asset_id", "seq"),
        Index("ix_jobs_of_batch", "tenant_id", "batch_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    asset_id: Mapped[str] = mapped_column(ForeignKey("assets.id"))
    agent_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    """The credential that it was sent to."""
    seq: Mapped[int]
    kind: Mapped[str] = mapped_column(String(32))
    request: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    when_offline: Mapped[str] = mapped_column(String(8))
    """`queue`, `skip` or `fail`."""
    timeout_s: Mapped[float]
    batch_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    idempotency_key: Mapped[str | None] = mapped_column(String(128))
    request_digest: Mapped[str] = mapped_column(String(64))
    created_by: Mapped[str] = mapped_column(String(ID_CHARS))
    created_name: Mapped[str] = mapped_column(String(256))
    login_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    created_ms: Mapped[int]
    expires_ms: Mapped[int]
    sent_ms: Mapped[int | None]
    deadline_ms: Mapped[int | None]
    cancel_ms: Mapped[int | None]
    """When somebody asked for its end."""
    ended_ms: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(64))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
