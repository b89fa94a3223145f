"""Units of work: committed when they return, alone when they fail, narrowed to their tenant."""

from __future__ import annotations

import asyncio
import functools
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from hub.agents import service
from hub.agents.models import Asset
from hub.db.database import Database
from hub.errors import ConflictError, NotFoundError, StorageFullError, UnavailableError
from tests.hub.conftest import sqlite_copy


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Asset.name).order_by(Asset.name)))


def add(session: Session, tenant: str) -> None:
    service.add_asset(session, tenant, f"of-{tenant}")


def failing(session: Session, name: str) -> None:
    service.add_asset(session, "t1", name)
    raise ConflictError("no")


def test_many_writes_are_each_there_and_a_failing_one_takes_nothing_with_it(
    database: Database,
) -> None:
    async def write_all() -> list[object]:
        jobs = [database.write("t1", service.add_asset, "t1", f"a{n:02}") for n in range(30)]
        return await asyncio.gather(
            *jobs, database.write("t1", failing, "bad"), return_exceptions=True
        )

    results = asyncio.run(write_all())
    assert isinstance(results[-1], ConflictError)
    assert asyncio.run(database.read("t1", names)) == [f"a{n:02}" for n in range(30)]


def test_repeatable_units_share_a_savepoint_and_a_failing_one_takes_nothing_with_it(
    sqlite: Database,
) -> None:
    ran: list[str] = []
    gate = threading.Event()

    def noted(session: Session, tenant: str, name: str) -> str:
        ran.append(name)
        service.add_asset(session, tenant, name)
        if name == "bad":
            raise ConflictError("no")
        return name

    async def write_all() -> list[object]:
        held = asyncio.ensure_future(sqlite.write("t1", lambda _: gate.wait(30)))
        jobs = [
            asyncio.ensure_future(sqlite.write_repeatable(tenant, noted, tenant, name))
            for tenant, name in [
                ("t1", "a"), ("t1", "bad"), ("t1", "c"), ("t2", "d"), ("t2", "e"),
            ]
        ]  # fmt: skip
        await asyncio.sleep(0)  # all are submitted, behind the one that holds the writer up
        gate.set()
        return [await held, *await asyncio.gather(*jobs, return_exceptions=True)]

    _, a, bad, *others = asyncio.run(write_all())
    assert isinstance(bad, ConflictError)
    assert [a, *others] == ["a", "c", "d", "e"]
    assert ran == ["a", "bad", "a", "bad", "c", "d", "e"]
    assert asyncio.run(sqlite.read("t1", names)) == ["a", "c"]
    assert asyncio.run(sqlite.read("t2", names)) == ["d", "e"]


def test_writer_outlives_whoever_gave_up_waiting(database: Database) -> None:
    async def give_up() -> str:
        jobs = [
            asyncio.ensure_future(database.write("t1", service.add_asset, "t1", f"a{n}"))
            for n in range(50)
        ]
        await asyncio.sleep(0)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        return (await database.write("t1", service.add_asset, "t1", "after")).name

    assert asyncio.run(give_up()) == "after"


def test_full_disk_fails_every_unit_that_it_took_along_and_no_other(sqlite: Database) -> None:
    """SQLite gives the whole transaction up: who was before in it must not hear of a success."""
    began, go_on = threading.Event(), threading.Event()

    def block(_session: Session) -> None:
        began.set()
        assert go_on.wait(60)

    def large(session: Session) -> None:
        session.add(
            Asset(id="large", tenant_id="t1", name="x", sample={"x": "y" * 500_000}, created_ms=1)
        )
        session.flush()

    limit(sqlite, pages=3)
    with ThreadPoolExecutor(8) as pool:
        pool.submit(sqlite.write_now, "t1", block)
        assert began.wait(60)
        works: dict[str, Any] = {f"a{n}": functools.partial(small, name=f"a{n}") for n in range(3)}
        works |= {"large": large} | {"b": functools.partial(small, name="b")}
        told = {name: sqlite._submit("t1", work) for name, work in works.items()}
        go_on.set()
    errors = {name: future.exception() for name, future in told.items()}
    assert isinstance(errors["large"], StorageFullError)
    saved = sqlite.read_now("t1", names)
    assert saved == sorted(name for name, error in errors.items() if error is None)
    assert {type(error) for error in errors.values() if error} == {StorageFullError}
    limit(sqlite, pages=100_000)
    sqlite.write_now("t1", large)
    assert "x" in sqlite.read_now("t1", names)


def test_writer_that_cannot_begin_tells_everybody_who_waits(sqlite: Database) -> None:
    """Another process holds the file for longer than anybody waits."""
    path = sqlite.engines.writer.url.database
    assert path is not None
    sqlite.write_now(None, lambda session: session.execute(text("PRAGMA busy_timeout=50")))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = [sqlite._submit("t1", functools.partial(small, name=f"a{n}")) for n in range(5)]
        assert {type(one.exception(60)) for one in told} == {UnavailableError}
        other.rollback()
    sqlite.write_now("t1", functools.partial(small, name="after"))
    assert sqlite.read_now("t1", names) == ["after"]


def small(session: Session, name: str) -> None:
    service.add_asset(session, "t1", name)


def limit(database: Database, pages: int) -> None:
    """Let a database have so many pages more, in the writer's own connection."""

    def work(session: Session) -> None:
        count = session.execute(text("PRAGMA page_count")).scalar_one()
        session.execute(text(f"PRAGMA max_page_count={count + pages}"))

    database.write_now(None, work)


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """What only a file can do."""
    opened = Database(sqlite_copy(sqlite_template, tmp_path))
    yield opened
    opened.close()


def test_a_server_that_does_not_answer_is_given_up_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"postgresql://hub@127.0.0.1:{silent.getsockname()[1]}/hub")
        began_s = time.monotonic()
        with pytest.raises(UnavailableError):
            database.read_now(None, names)
        assert time.monotonic() - began_s < 30
        database.close()


def test_a_tenant_sees_and_writes_its_own_rows_alone(database: Database) -> None:
    theirs = database.write_now(None, lambda session: service.add_asset(session, "t2", "x"))
    assert asyncio.run(database.read("t1", names)) == []
    assert asyncio.run(database.read("t2", names)) == ["x"]
    assert asyncio.run(database.read(None, names)) == ["x"]
    with pytest.raises(NotFoundError):
        asyncio.run(database.read("t1", service.get_asset, theirs.id))
    with pytest.raises(NotFoundError):
        asyncio.run(database.write("t1", service.add_asset, "t2", "forged"))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_row_level_security_alone_hides_other_tenants_rows(database: Database) -> None:
    """What the ORM does not write is not narrowed by it: the database itself must."""
    for tenant in ("t1", "t2"):
        database.write_now(tenant, functools.partial(add, tenant=tenant))

    def run(statement: str):
        return lambda session: list(session.execute(text(statement)).scalars())

    every = "SELECT name FROM assets ORDER BY name"
    assert database.read_now("t1", run(every)) == ["of-t1"]
    assert database.read_now(None, run(every)) == ["of-t1", "of-t2"]
    renamed = database.write_now("t1", run("UPDATE assets SET name = 'x' RETURNING tenant_id"))
    assert renamed == ["t1"]
    assert database.write_now("t1", run("DELETE FROM assets RETURNING tenant_id")) == ["t1"]
    assert database.read_now(None, run(every)) == ["of-t2"]
    forged = (
        "INSERT INTO assets (id, tenant_id, name, tags, presence, sample, created_ms)"
        " VALUES ('i', 't2', 'n', '[]', 'offline', '{}', 0) RETURNING id"
    )
    with pytest.raises(ProgrammingError, match="row-level security"):
        database.write_now("t1", run(forged))


def test_a_tenants_scope_does_not_outlive_its_unit(database: Database) -> None:
    """Connections are pooled: the next unit must not inherit the one before."""
    database.write_now("t1", lambda session: service.add_asset(session, "t1", "a"))
    for tenant, seen in (("t2", []), (None, ["a"]), ("t1", ["a"]), ("t2", [])):
        assert [database.read_now(tenant, names) for _ in range(5)] == [seen] * 5


def test_get_by_key_is_narrowed_too(database: Database) -> None:
    theirs = database.write_now(None, lambda session: service.add_asset(session, "t2", "x"))
    assert database.read_now("t1", lambda session: session.get(Asset, theirs.id)) is None
    assert database.read_now("t2", lambda session: session.get(Asset, theirs.id)) is not None


def test_nul_in_a_text_is_no_fault_and_ends_nobody_elses_unit(database: Database) -> None:
    """Machines say what they like; PostgreSQL's texts cannot hold a NUL."""

    async def write_both() -> None:
        await asyncio.gather(
            database.write("t1", service.add_asset, "t1", "a\0b"),
            database.write("t1", service.add_asset, "t1", "c"),
        )

    asyncio.run(write_both())
    found = asyncio.run(database.read("t1", names))
    assert [name.replace("\ufffd", "\0") for name in found] == ["a\0b", "c"]
