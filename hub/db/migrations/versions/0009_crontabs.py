"""Crontabs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "crontabs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("asset_id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("made_by", sa.String(length=256), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_crontabs_asset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_crontabs")),
    )
    with op.batch_alter_table("crontabs", schema=None) as batch_op:
        batch_op.create_index("ix_crontabs_of_asset", ["tenant_id", "asset_id", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_crontabs_tenant_id"), ["tenant_id"], unique=False)

    secure(op.get_bind(), ["crontabs"])
