"""Bring the database to this release's schema."""

from __future__ import annotations

from hub.cli import exits, options
from hub.db import migrate
from hub.db.database import Database


def run(argv: list[str]) -> int:
    """Run `jackline hub migrate`.

    Raises:
        SettingsError: the database is of a newer release.
    """
    found = options.load(options.parser("migrate", "Bring the database up.").parse_args(argv))
    database = Database(found.url)
    try:
        migrate.upgrade(database)
    finally:
        database.close()
    print("the database is current")
    return exits.OK
