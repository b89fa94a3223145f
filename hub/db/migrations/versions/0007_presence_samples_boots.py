"""Presence samples boots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "rollups",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("asset_id", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("cpu", sa.Float(), nullable=True),
        sa.Column("cpu_max", sa.Float(), nullable=True),
        sa.Column("mem_percent", sa.Float(), nullable=True),
        sa.Column("mem_percent_max", sa.Float(), nullable=True),
        sa.Column("mem_used", sa.Float(), nullable=True),
        sa.Column("load1", sa.Float(), nullable=True),
        sa.Column("disk_percent", sa.Float(), nullable=True),
        sa.Column("disk_percent_max", sa.Float(), nullable=True),
        sa.Column("rx_bps", sa.Float(), nullable=True),
        sa.Column("tx_bps", sa.Float(), nullable=True),
        sa.Column("rtt_ms", sa.Float(), nullable=True),
        sa.Column("rtt_ms_max", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("asset_id", "at_ms", name=op.f("pk_rollups")),
    )
    with op.batch_alter_table("rollups", schema=None) as batch_op:
        batch_op.create_index("ix_rollups_at", ["at_ms"], unique=False)

    op.create_table(
        "samples",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("asset_id", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("cpu", sa.Float(), nullable=True),
        sa.Column("mem_percent", sa.Float(), nullable=True),
        sa.Column("mem_used", sa.Float(), nullable=True),
        sa.Column("load1", sa.Float(), nullable=True),
        sa.Column("disk_percent", sa.Float(), nullable=True),
        sa.Column("rx_bps", sa.Float(), nullable=True),
        sa.Column("tx_bps", sa.Float(), nullable=True),
        sa.Column("rtt_ms", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_samples")),
    )
    with op.batch_alter_table("samples", schema=None) as batch_op:
        batch_op.create_index("ix_samples_asset", ["asset_id", "at_ms"], unique=False)
        batch_op.create_index("ix_samples_at", ["at_ms"], unique=False)

    op.create_table(
        "presence_changes",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("asset_id", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["assets.id"],
            name=op.f("fk_presence_changes_asset_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_presence_changes")),
    )
    with op.batch_alter_table("presence_changes", schema=None) as batch_op:
        batch_op.create_index("ix_presence_changes_asset", ["asset_id", "seq"], unique=False)
        batch_op.create_index(batch_op.f("ix_presence_changes_at_ms"), ["at_ms"], unique=False)

    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.add_column(sa.Column("boot_id", sa.String(length=256), nullable=True))
        batch_op.add_column(sa.Column("boot_before", sa.String(length=256), nullable=True))
        batch_op.add_column(sa.Column("conflict_ms", sa.BigInteger(), nullable=True))
        batch_op.create_index(batch_op.f("ix_agents_revoked_ms"), ["revoked_ms"], unique=False)

    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cpu", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("mem_percent", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("disk_percent", sa.Double(), nullable=True))

    with op.batch_alter_table("seen_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_seen_events_at_ms"), ["at_ms"], unique=False)

    secure(op.get_bind(), ["presence_changes", "rollups", "samples"])
