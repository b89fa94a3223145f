"""Finals are committed before they are acknowledged, once each, in order; faults stay small."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.inbox import Inbox
from hub.agents.links import Link
from hub.audit.models import AuditRow
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import DuplicateResultError, ForeignResultError, UnavailableError
from wire.admin import AdminResult, Outcome, Summary
from wire.shell import ShellClosed, ShellOutput


class Desk:
    """An inbox over a database, one link, and what was acknowledged."""

    def __init__(self, database: Database) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.inbox = Inbox(database, lambda job: self.tasks.append(asyncio.ensure_future(job)))
        self.acknowledged: list[tuple[str, bytes | None]] = []
        self.link = Link(
            agent_id="a1", asset_id="m1", tenant_id="t1", client_id="box", features=frozenset(),
            boot_id=None, version=None, jobs=(), connected_ms=now_ms(), peer=None, is_up=True,  # type: ignore[arg-type]
        )  # fmt: skip

    async def bring(self, message: Any) -> None:
        key = str(message.id)
        await self.inbox.on_message(
            self.link, message, lambda said: self.acknowledged.append((key, said))
        )

    async def settle(self) -> None:
        await asyncio.gather(*self.tasks)


def run(database: Database, work: Callable[[Desk], Awaitable[None]]) -> Desk:
    async def main() -> Desk:
        desk = Desk(database)
        await work(desk)
        await desk.settle()
        return desk

    return asyncio.run(main())


def closed(number: int) -> ShellClosed:
    return ShellClosed(session=f"s{number}", code=0, id=f"e{number}")


def test_finals_are_taken_in_order_once_and_acknowledged_after_their_commit(
    database: Database,
) -> None:
    taken: list[str] = []
    after: list[str] = []

    def on_closed(session: Session, link: Link, message: ShellClosed) -> Callable[[], None]:
        taken.append(message.session)
        return lambda: after.append(message.session)

    async def work(desk: Desk) -> None:
        desk.inbox.final(ShellClosed, on_closed)
        for number in (1, 2, 3, 2, 1):
            await desk.bring(closed(number))

    desk = run(database, work)
    assert taken == after == ["s1", "s2", "s3"]
    assert [key for key, _ in desk.acknowledged] == ["e1", "e2", "e3", "e2", "e1"]
    assert [said for _, said in desk.acknowledged] == [None, None, None, *[b'"duplicate"'] * 2]
    assert desk.inbox.counts == {"taken": 3, "duplicate": 2}


def test_a_final_that_a_fault_of_ours_rolled_back_is_not_acknowledged_and_can_come_again(
    database: Database,
) -> None:
    faults = [True]

    def on_closed(session: Session, link: Link, message: ShellClosed) -> None:
        if faults:
            faults.pop()
            raise RuntimeError("a fault of the handler")

    async def work(desk: Desk) -> None:
        desk.inbox.final(ShellClosed, on_closed)
        await desk.bring(closed(1))
        await desk.bring(closed(1))

    desk = run(database, work)
    assert desk.acknowledged == [("e1", None)]
    assert desk.inbox.counts == {"failed": 1, "taken": 1}


def test_while_the_database_does_not_answer_nothing_is_acknowledged_and_nothing_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.agents.inbox.RETRY_S", 0.01)
    failures = [1, 2, 3]

    def on_closed(session: Session, link: Link, message: ShellClosed) -> None:
        if failures:
            failures.pop()
            raise UnavailableError

    async def work(desk: Desk) -> None:
        desk.inbox.final(ShellClosed, on_closed)
        await desk.bring(closed(1))
        await desk.bring(closed(2))

    assert run(database, work).acknowledged == [("e1", None), ("e2", None)]


def test_another_agents_result_is_dropped_and_audited(database: Database) -> None:
    def foreign(session: Session, link: Link, message: ShellClosed) -> None:
        raise ForeignResultError

    async def work(desk: Desk) -> None:
        desk.inbox.final(ShellClosed, foreign)
        await desk.bring(closed(1))

    desk = run(database, work)
    assert desk.acknowledged == [("e1", b'"foreign_result"')]
    row = database.read_now(None, lambda s: s.scalars(select(AuditRow)).one())
    assert (row.outcome, row.object_id, row.actor_name) == ("foreign_result", "m1", "box")
    assert row.detail == {"event": "shell_closed"}


def test_a_result_of_a_finished_job_is_acknowledged_as_a_duplicate(database: Database) -> None:
    def known(session: Session, link: Link, message: AdminResult) -> None:
        raise DuplicateResultError

    result = Outcome(stdout="", stderr="", summary=Summary(code=0, duration_ms=1))

    async def work(desk: Desk) -> None:
        desk.inbox.final(AdminResult, known)
        await desk.bring(AdminResult(command="x", result=result, id="e1"))

    assert run(database, work).acknowledged == [("e1", b'"duplicate"')]


def test_a_live_handler_that_fails_is_nobody_elses_trouble(database: Database) -> None:
    heard: list[str] = []

    def failing(link: Link, message: ShellOutput) -> None:
        raise RuntimeError("a fault of the handler")

    async def work(desk: Desk) -> None:
        desk.inbox.live(ShellOutput, failing)
        desk.inbox.live(ShellOutput, lambda link, message: heard.append(message.data))
        output = ShellOutput(session="s", data="x")
        await desk.inbox.on_message(desk.link, output, None)

    run(database, work)
    assert heard == ["x"]


def test_a_flood_of_finals_waits_for_the_database_and_all_arrive(
    tmp_path: Path, database: Database
) -> None:
    async def work(desk: Desk) -> None:
        desk.inbox.final(ShellClosed, lambda session, link, message: None)
        for number in range(600):
            await desk.bring(closed(number))

    assert len(run(database, work).acknowledged) == 600
