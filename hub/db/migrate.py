"""Bring a database to this release's schema, or tell that it is not there.

Rules: each revision is one transaction (SQLite and PostgreSQL both roll a schema back), so a kill
leaves the revision before it; a hub never serves a schema that is not its own; a database from a
newer release is refused, never touched.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from hub.db.database import Database
from hub.errors import SettingsError


def upgrade(database: Database, to: str = "head") -> None:
    """Apply what is missing.

    Args:
        to: the last revision to apply; a hub serves none but the newest.

    Raises:
        SettingsError: the database is of a newer release.
    """
    with database.engines.writer.connect() as connection:
        _refuse_newer(connection)
        connection.rollback()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        connection.commit()


def is_current(database: Database) -> bool:
    """Tell whether the schema is this release's."""
    with database.engines.reader.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return current == ScriptDirectory.from_config(_config()).get_current_head()


def check(database: Database) -> None:
    """Refuse a schema that is not ours.

    Raises:
        SettingsError: with the cure.
    """
    with database.engines.reader.connect() as connection:
        _refuse_newer(connection)
    if not is_current(database):
        raise SettingsError("the database is of an older release: run `jackline hub migrate`")


def _refuse_newer(connection: Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise SettingsError(f"the database is of a newer release (revision {current})")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
