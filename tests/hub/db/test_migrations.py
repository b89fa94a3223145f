"""Revisions lead to exactly what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from hub.db import migrate
from hub.db.database import Database
from hub.db.tables import Table, TenantOwned
from hub.errors import SettingsError
from hub.metadata import METADATA


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    opened = Database(empty_database_url)
    yield opened
    opened.close()


def test_revisions_lead_to_the_tables(empty: Database) -> None:
    with pytest.raises(SettingsError, match="jackline hub migrate"):
        migrate.check(empty)
    migrate.upgrade(empty)
    migrate.check(empty)
    with empty.engines.reader.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == []


def test_upgrading_twice_changes_nothing(empty: Database) -> None:
    migrate.upgrade(empty)
    migrate.upgrade(empty)
    migrate.check(empty)


def test_a_newer_releases_database_is_refused(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.engines.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="newer release"):
        migrate.upgrade(empty)
    with pytest.raises(SettingsError, match="newer release"):
        migrate.check(empty)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_every_table_of_tenants_is_under_row_level_security(database: Database) -> None:
    owned = {
        str(mapper.local_table)
        for mapper in Table.registry.mappers
        if issubclass(mapper.class_, TenantOwned)
    }
    with database.engines.reader.connect() as connection:
        secured = connection.scalars(
            text(
                "SELECT tablename FROM pg_policies JOIN pg_class ON relname = tablename"
                " WHERE relrowsecurity AND relforcerowsecurity"
            )
        )
        assert set(secured) == owned
