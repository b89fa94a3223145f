"""Units of work: committed when they return, alone when they fail, narrowed to their tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents import service
from hub.agents.models import Asset
from hub.db import migrate
from hub.db.database import Database
from hub.errors import ConflictError, NotFoundError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/hub.db")
    migrate.upgrade(opened)
    yield opened
    opened.close()


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Asset.name).order_by(Asset.name)))


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


def test_a_tenant_sees_and_writes_its_own_rows_alone(database: Database) -> None:
    theirs = database.write_now(None, lambda session: service.add_asset(session, "t2", "x"))
    assert asyncio.run(database.read("t1", names)) == []
    assert asyncio.run(database.read("t2", names)) == ["x"]
    assert asyncio.run(database.read(None, names)) == ["x"]
    with pytest.raises(NotFoundError):
        asyncio.run(database.read("t1", service.get_asset, theirs.id))
    with pytest.raises(NotFoundError):
        asyncio.run(database.write("t1", service.add_asset, "t2", "forged"))
