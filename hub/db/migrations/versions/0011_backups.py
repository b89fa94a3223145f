"""Backups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "backup_plans",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("asset_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("source_dirs", sa.JSON(), nullable=False),
        sa.Column("dest_root", sa.String(length=4096), nullable=False),
        sa.Column("host", sa.String(length=300), nullable=True),
        sa.Column("remote_user", sa.String(length=128), nullable=True),
        sa.Column("port", sa.BigInteger(), nullable=True),
        sa.Column("ignore_globs", sa.JSON(), nullable=False),
        sa.Column("layout", sa.String(length=16), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=256), nullable=False),
        sa.Column("planned_ms", sa.BigInteger(), nullable=True),
        sa.Column("found", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("plan_job_id", sa.String(length=64), nullable=True),
        sa.Column("plan_error", sa.String(length=64), nullable=True),
        sa.Column("plan_detail", sa.String(length=2000), nullable=True),
        sa.Column("approved_ms", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.String(length=256), nullable=True),
        sa.Column("last_job_id", sa.String(length=64), nullable=True),
        sa.Column("last_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_state", sa.String(length=16), nullable=True),
        sa.Column("last_error", sa.String(length=64), nullable=True),
        sa.Column("last_detail", sa.String(length=2000), nullable=True),
        sa.Column("last_result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("success_ms", sa.BigInteger(), nullable=True),
        sa.Column("verified_ms", sa.BigInteger(), nullable=True),
        sa.Column("is_verified", sa.Boolean(), nullable=True),
        sa.Column("is_late", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("progress_ms", sa.BigInteger(), nullable=True),
        sa.Column("removed_ms", sa.BigInteger(), nullable=True),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_backup_plans_asset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backup_plans")),
    )
    with op.batch_alter_table("backup_plans", schema=None) as batch_op:
        batch_op.create_index(
            "ix_backup_plans_of_asset", ["tenant_id", "asset_id", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_backup_plans_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "backup_schedules",
        sa.Column("asset_id", sa.String(length=64), nullable=False),
        sa.Column("schedules", sa.JSON(), nullable=False),
        sa.Column("told_ms", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["assets.id"], name=op.f("fk_backup_schedules_asset_id")
        ),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_backup_schedules")),
    )
    with op.batch_alter_table("backup_schedules", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_backup_schedules_tenant_id"), ["tenant_id"], unique=False
        )

    secure(op.get_bind(), ["backup_plans", "backup_schedules"])
