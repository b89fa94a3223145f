"""From when on a backup is overdue by its schedules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    with op.batch_alter_table("backup_plans", schema=None) as batch_op:
        batch_op.add_column(sa.Column("overdue_ms", sa.BigInteger(), nullable=True))
        batch_op.create_index(
            batch_op.f("ix_backup_plans_overdue_ms"), ["overdue_ms"], unique=False
        )
