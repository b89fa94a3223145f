"""Shell sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "shell_sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("asset_id", sa.String(length=64), nullable=False),
        sa.Column("asset_name", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=128), nullable=False),
        sa.Column("purpose", sa.String(length=255), nullable=False),
        sa.Column("cols", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("wanted", sa.String(length=32), nullable=True),
        sa.Column("end_reason", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.String(length=512), nullable=True),
        sa.Column("code", sa.BigInteger(), nullable=True),
        sa.Column("signal", sa.String(length=32), nullable=True),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("recording", sa.String(length=16), nullable=False),
        sa.Column("recording_bytes", sa.BigInteger(), nullable=True),
        sa.Column("recording_sha256", sa.String(length=64), nullable=True),
        sa.Column("recording_truncated", sa.Boolean(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["assets.id"], name=op.f("fk_shell_sessions_asset_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shell_sessions")),
    )
    with op.batch_alter_table("shell_sessions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_shell_sessions_asset", ["tenant_id", "asset_id", "id"], unique=False
        )
        batch_op.create_index("ix_shell_sessions_state", ["state", "id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_shell_sessions_tenant_id"), ["tenant_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_shell_sessions_user_id"), ["user_id"], unique=False)

    secure(op.get_bind(), ["shell_sessions"])
