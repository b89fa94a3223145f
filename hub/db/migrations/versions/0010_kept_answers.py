"""Kept answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "kept_answers",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("media_type", sa.String(length=128), nullable=True),
        sa.Column("answer_sealed", sa.String(), nullable=True),
        sa.Column("claimed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_kept_answers")),
    )
    with op.batch_alter_table("kept_answers", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_kept_answers_claimed_ms"), ["claimed_ms"], unique=False
        )

    secure(op.get_bind(), [])
