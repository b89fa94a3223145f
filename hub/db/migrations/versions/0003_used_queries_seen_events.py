"""Used queries seen events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "seen_events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("agent_id", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=256), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_seen_events")),
        sa.UniqueConstraint("agent_id", "event_id", name=op.f("uq_seen_events_agent_id_event_id")),
    )
    op.create_table(
        "used_queries",
        sa.Column("sig", sa.String(length=64), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sig", name=op.f("pk_used_queries")),
    )
    with op.batch_alter_table("used_queries", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_used_queries_expires_ms"), ["expires_ms"], unique=False
        )

    secure(op.get_bind(), [])
