"""A database goes up from every released revision, and a kill at any step of it leaves it whole.

Fault cases J ("DB migration killed at each step"). `make test` kills each revision at one of its
steps, `make soak FAMILY=hub` at every one.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from hub.db import migrate
from hub.db.database import Database
from hub.errors import SettingsError
from tests.doubles.doomed_migration import Migrations
from tests.doubles.hub_process import HubProcess
from tests.doubles.postgres import SUPERUSER, PostgresServer, name_of

pytestmark = pytest.mark.timeout(1700)
VERSIONS = Path(migrate.__file__).parent / "migrations"
REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory(str(VERSIONS)).walk_revisions()))
]
HEAD = REVISIONS[-1]
RNG = random.Random()
Rows = list[tuple[Any, ...]]
Schema = dict[str, Rows]
REVISION = "SELECT * FROM alembic_version"


class Place(Protocol):
    """Where databases are made: one kind of the two."""

    catalogue: ClassVar[dict[str, str]]
    """What tells all that was said of the tables."""

    def empty(self) -> str: ...
    def copy(self, url: str) -> str: ...
    def drop(self, url: str) -> None: ...
    def owner_url(self, url: str) -> str:
        """Return the URL of somebody whom no row-level security narrows."""


class SqliteFiles:
    """See `Place`."""

    catalogue: ClassVar[dict[str, str]] = {
        "all": "SELECT tbl_name, name, sql FROM sqlite_master WHERE tbl_name != 'alembic_version'"
    }

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def empty(self) -> str:
        self._made += 1
        return f"sqlite:///{self._folder}/{self._made}.db"

    def copy(self, url: str) -> str:
        made = self.empty()
        shutil.copy(_file(url), _file(made))
        return made

    def drop(self, url: str) -> None:
        for file in self._folder.glob(f"{_file(url).name}*"):
            file.unlink()

    def owner_url(self, url: str) -> str:
        return url


class PostgresDatabases:
    """See `Place`."""

    catalogue: ClassVar[dict[str, str]] = {
        "columns": "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, a.attname,"
        " format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relkind = 'r'"
        " AND c.relnamespace = 'public'::regnamespace AND c.relname != 'alembic_version'",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " AND conrelid::regclass::text != 'alembic_version'",
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'public' AND tablename != 'alembic_version'",
        "policies": "SELECT tablename, policyname, qual, with_check FROM pg_policies",
    }

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def empty(self) -> str:
        return self._server.create()

    def copy(self, url: str) -> str:
        return self._server.create(name_of(url))

    def drop(self, url: str) -> None:
        self._server.drop(url)

    def owner_url(self, url: str) -> str:
        return self._server.url(name_of(url), SUPERUSER).replace("://", "+psycopg://", 1)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqliteFiles(tmp_path)
    return PostgresDatabases(request.getfixturevalue("postgres"))


@pytest.fixture
def migrations() -> Iterator[Migrations]:
    with Migrations() as started:
        yield started


@pytest.mark.family("hub", minutes=4)
def test_a_migration_killed_at_each_step_leaves_a_revision_whole_and_is_finished_by_the_next(
    place: Place, migrations: Migrations, soak: bool
) -> None:
    newest = place.empty()
    migrations.up(newest, HEAD)
    whole = schema(place, newest)
    before, kills = place.empty(), 0
    for revision in REVISIONS:
        after = place.copy(before) if revision != REVISIONS[0] else place.empty()
        steps = migrations.up(after, revision)
        ends = (schema(place, before), schema(place, after))
        assert ends[0] != ends[1]
        kept = rows(place, before)
        chosen = range(len(steps)) if soak else [RNG.randrange(len(steps))]
        for step in chosen:
            struck = place.copy(before) if revision != REVISIONS[0] else place.empty()
            migrations.killed(struck, revision, step)
            judge(place, struck, ends, f"{revision}, step {step}: {steps[step]}")
            # What is whole at this revision goes on to the newest alike, whichever step was hit.
            goal = HEAD if step == chosen[-1] else revision
            migrations.up(struck, goal)
            assert schema(place, struck) == (whole if goal == HEAD else ends[1])
            assert rows(place, struck).items() >= kept.items()
            place.drop(struck)
        kills += len(chosen)
        fill(place, after)
        place.drop(before)
        before = after
    print(f"\n{type(place).__name__}: {len(REVISIONS)} revisions, {kills} kills")


def judge(place: Place, url: str, ends: tuple[Schema, Schema], where: str) -> None:
    """A database stands before or after a revision, never in between, and is served at the end."""
    found = schema(place, url)
    assert found in ends, where
    database = Database(url)
    try:
        if found.get("revision") == [(HEAD,)]:
            migrate.check(database)
        else:
            with pytest.raises(SettingsError, match="jackline hub migrate"):
                migrate.check(database)
    finally:
        database.close()


def test_a_hub_serves_no_older_schema_and_names_the_cure(migrations: Migrations) -> None:
    hub = HubProcess()
    try:
        file = hub.state_dir / "hub.db"
        for one in hub.state_dir.glob("hub.db*"):
            one.unlink()
        url = f"sqlite:///{file}"
        migrations.up(url, REVISIONS[4])
        steps = migrations.up(f"sqlite:///{hub.state_dir}/spare.db", REVISIONS[6])
        migrations.killed(url, REVISIONS[6], len(steps) // 8)
        refused = hub.command("serve", "--port", str(hub.port))
        assert refused.returncode == 78
        assert refused.stderr.splitlines() == [
            "jackline hub serve: the database is of an older release: run `jackline hub migrate`"
        ]
        assert hub.command("migrate").returncode == 0
        hub.start()
    finally:
        hub.close()


# -- what a database holds -----------------------------------------------------------------------


def schema(place: Place, url: str) -> Schema:
    """Return all that was said of the tables, and the revision."""
    with looking(place, url) as connection:
        found = {
            kind: sorted((tuple(row) for row in connection.execute(sa.text(asked))), key=repr)
            for kind, asked in place.catalogue.items()
        }
        if sa.inspect(connection).has_table("alembic_version"):
            found["revision"] = [tuple(row) for row in connection.execute(sa.text(REVISION))]
    return found


def rows(place: Place, url: str) -> dict[tuple[str, str], Rows]:
    """Return what stands in each column."""
    found: dict[tuple[str, str], Rows] = {}
    with looking(place, url) as connection:
        for table in set(sa.inspect(connection).get_table_names()) - {"alembic_version"}:
            told = connection.execute(sa.select(sa.text("*")).select_from(sa.table(table)))
            names, standing = list(told.keys()), told.all()
            found |= {(table, name): [row[at] for row in standing] for at, name in enumerate(names)}
    return found


@contextlib.contextmanager
def looking(place: Place, url: str) -> Iterator[sa.Connection]:
    """Open a database that others write, and drop, besides."""
    engine = sa.create_engine(place.owner_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def fill(place: Place, url: str) -> None:
    """Put a row into every table that has none."""
    engine = sa.create_engine(place.owner_url(url), poolclass=sa.NullPool)
    metadata = sa.MetaData()
    with engine.begin() as connection:
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            if connection.execute(sa.select(table)).first() is None:
                row = {column.name: filler(column) for column in table.columns}
                connection.execute(table.insert().values(row))


def filler(column: sa.Column[Any]) -> Any:
    """Return a value; the same for a key and for what refers to it."""
    if isinstance(column.type, sa.JSON):
        return {"a": 1}
    if isinstance(column.type, sa.Boolean):
        return True
    if isinstance(column.type, sa.Integer | sa.Numeric | sa.Float):
        return 1
    return b"x" if isinstance(column.type, sa.LargeBinary) else "x"


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
