"""Revisions lead to exactly what the tables say."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from hub.db import migrate
from hub.db.database import Database
from hub.metadata import METADATA


def test_revisions_lead_to_the_tables(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/hub.db")
    try:
        migrate.upgrade(database)
        migrate.check(database)
        with database.engines.reader.connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, METADATA) == []
    finally:
        database.close()
