"""Tenant policies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "tenant_policies",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenant_policies")),
    )
    secure(op.get_bind(), ["tenant_policies"])
