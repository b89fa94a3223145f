"""Machines are counted by state, and credentials found, without a look at all their rows."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.drop_index("ix_assets_presence")
        batch_op.create_index(
            "ix_assets_presence", ["tenant_id", "presence", "id", "deleted_ms"], unique=False
        )
    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.drop_index("ix_agents_tenant_id")
        batch_op.create_index(
            "ix_agents_of_asset", ["tenant_id", "asset_id", "client_id"], unique=False
        )
