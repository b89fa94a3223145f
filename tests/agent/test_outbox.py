"""Finals: stored before they are sent, sent until they have arrived, in order, once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import outbox as outbox_module
from agent.errors import LinkError
from agent.outbox import MAX_STRIKES, Outbox
from agent.outbox_flights import BLAME_S
from agent.outbox_store import Store
from agent.outgoing import Data, Final, Outgoing
from tests.doubles.endpoint import ListLog
from wire.admin import AdminResult, Outcome, Summary
from wire.shell import ShellClosed, ShellOutput
from wire.workers import WorkerResult
from workers.loop import Loop

DEADLINE_S = 120.0
ACK = frozenset({"ack"})
CLOSED = LinkError("server_closed", "the server closed the WebSocket")
LIMIT = 240 * 1024


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """An outbox on a real file with its real thread, and a link made of its queue alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.time = Time()
        self.loop = Loop(clock=self.time)
        self.log = ListLog()
        self.full: list[bool] = []
        self.outgoing = Outgoing()
        self.outbox = Outbox(path, self.loop, self.log, self.full.append)  # type: ignore[arg-type]
        self.outbox.start()
        self.stored: list[str] = []
        self.flying: list[Final] = []

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline_s = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            assert time.monotonic() < deadline_s, self.log.records
            self.loop.turn(0.01)
        return found

    def close(self) -> None:
        self.outbox.close()
        self.loop.close()

    def settle(self) -> None:
        """Let the writer's thread finish what it has been asked for."""
        done: list[bool] = []
        self.outbox._writer.submit(lambda _store: True, done.append)
        self.until(lambda: done)
        self.loop.turn(0)

    def final(self, key: str, data: str = "", after: str | None = None) -> None:
        message = ShellClosed(session=key, reason=data or None)
        self.outbox.final(message, key, after, lambda: self.stored.append(key))

    def link(self, features: frozenset[str] | None = ACK, limit: int = LIMIT) -> None:
        self.outgoing.open()
        self.outbox.on_settled(self.outgoing, features, limit)

    def unlink(self, error: LinkError = CLOSED) -> None:
        self.outgoing.close()
        self.outbox.on_down(error)
        self.flying.clear()

    def sent(self, count: int) -> list[str]:
        """Wait until so many finals have been written; return their sessions, oldest first."""
        self.until(lambda: self._write() >= count)
        return [payload(one)["session"] for one in self.flying]

    def sent_nothing_more(self) -> bool:
        before = len(self.flying)
        self.settle()
        return self._write() == before

    def arrive(self) -> None:
        tickets, self.flying = [one.ticket for one in self.flying], []
        self.outbox.on_arrived(tickets)

    def kept(self) -> list[str]:
        self.settle()
        store = Store(self.path)
        try:
            return [entry.key for entry in store.entries()]
        finally:
            store.close()

    def _write(self) -> int:
        while (item := self.outgoing.take(timeout_s=0)) is not None:
            self.outgoing.sent(item)
            if isinstance(item, Final):
                self.flying.append(item)
                self.outbox.on_written(item.ticket)
        return len(self.flying)


def payload(final: Final) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(final.payload)
    return decoded


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "outbox.db")
    yield made
    made.close()


def test_final_is_on_the_disk_before_it_is_sent(bench: Bench) -> None:
    bench.link()
    bench.final("s1")
    assert bench.outgoing.is_idle()
    bench.until(lambda: bench.stored)
    assert bench.kept() == ["s1"]
    assert bench.sent(1) == ["s1"]


def test_final_without_a_link_waits_for_one(bench: Bench) -> None:
    for key in ("a", "b", "c"):
        bench.final(key)
    bench.settle()
    status = bench.outbox.status()
    assert status.waiting == 3
    assert status.oldest_s is not None and 0 <= status.oldest_s < 60
    bench.link()
    assert bench.sent(3) == ["a", "b", "c"]


def test_final_that_arrived_is_forgotten(bench: Bench) -> None:
    bench.link()
    bench.final("a")
    bench.sent(1)
    bench.arrive()
    assert bench.outbox.status().waiting == 0
    bench.until(lambda: not bench.kept())
    assert bench.outbox.status().oldest_s is None
    bench.unlink()
    bench.link()
    assert bench.sent_nothing_more()


def test_final_that_did_not_arrive_is_sent_again_under_the_same_id(bench: Bench) -> None:
    bench.link()
    bench.final("a")
    bench.sent(1)
    first = payload(bench.flying[0])["id"]
    bench.unlink(LinkError("dead", ""))
    bench.link()
    bench.sent(1)
    assert payload(bench.flying[0])["id"] == first


def test_finals_survive_the_agent(tmp_path: Path) -> None:
    first = Bench(tmp_path / "outbox.db")
    for number in range(50):
        first.final(f"s{number}")
    first.until(lambda: len(first.stored) == 50)
    first.close()
    second = Bench(tmp_path / "outbox.db")
    second.link()
    assert second.sent(50) == [f"s{number}" for number in range(50)]
    second.close()


def test_final_carries_an_id_and_asks_only_where_ack_is_agreed(bench: Bench) -> None:
    bench.link(None)
    bench.final("a")
    bench.sent(1)
    assert not bench.flying[0].wants_ack
    assert payload(bench.flying[0]) == {"type": "shell_closed", "t": "shell_closed", "session": "a"}
    bench.unlink(LinkError("dead", ""))
    bench.link(ACK)
    bench.sent(1)
    assert bench.flying[0].wants_ack
    assert payload(bench.flying[0])["id"]


def test_event_that_a_peer_may_not_see_waits_for_one_that_may(bench: Bench) -> None:
    bench.outbox.final(WorkerResult(request_id="r", ok=True), "w")
    bench.final("a")
    bench.settle()
    bench.link(None)
    assert bench.sent(1) == ["a"]
    bench.arrive()
    bench.unlink(LinkError("dead", ""))
    bench.link(frozenset({"ack", "workers"}))
    bench.until(lambda: bench._write() == 1)
    assert bench.flying[0].name == "worker_result"


def test_final_of_a_session_follows_its_queued_output(bench: Bench) -> None:
    bench.link()
    bench.outgoing.data("s", ShellOutput(session="s", data="last words"), 10)
    bench.final("s", after="s")
    bench.until(lambda: bench.stored)
    first = bench.outgoing.take(timeout_s=0)
    assert isinstance(first, Data)
    assert isinstance(bench.outgoing.take(timeout_s=0), Final)


def test_second_final_for_a_job_is_dropped_and_counts_as_stored(bench: Bench) -> None:
    bench.link()
    bench.final("a")
    bench.final("a")
    bench.until(lambda: bench.stored == ["a", "a"])
    assert bench.sent(1) == ["a"]
    assert bench.sent_nothing_more()
    assert bench.outbox.status().waiting == 1


def test_result_is_found_again_by_its_job_id(bench: Bench) -> None:
    result = AdminResult(
        command="true",
        job_id="j1",
        result=Outcome(stdout="", stderr="", summary=Summary(code=0, duration_ms=1)),
    )
    bench.outbox.final(result, "worker-1", digest="d1")
    bench.settle()
    assert bench.outbox.find("j1") == ("d1", result)
    assert bench.outbox.find("j2") is None


def test_stored_final_is_shortened_for_a_server_that_takes_less(bench: Bench) -> None:
    text = "x" * 100_000
    result = AdminResult(
        command="cat",
        result=Outcome(stdout=text, stderr="", summary=Summary(code=0, duration_ms=1)),
    )
    bench.outbox.final(result, "w")
    bench.settle()
    bench.link(limit=8000)
    bench.until(lambda: bench._write() == 1)
    assert len(bench.flying[0].payload) <= 8000
    assert payload(bench.flying[0])["result"]["summary"]["truncated"] is True


def test_long_backlog_is_read_in_stretches(bench: Bench) -> None:
    for number in range(200):
        bench.final(f"s{number}", data="x" * 10_000)
    bench.until(lambda: len(bench.stored) == 200)
    bench.link()
    assert bench.sent(200) == [f"s{number}" for number in range(200)]


def test_new_finals_do_not_overtake_the_backlog(bench: Bench) -> None:
    for number in range(100):
        bench.final(f"s{number}", data="x" * 10_000)
    bench.until(lambda: len(bench.stored) == 100)
    bench.link()
    bench.final("newest")
    assert bench.sent(101)[-1] == "newest"


# -- poison --------------------------------------------------------------------------------------


def test_after_a_sudden_end_finals_go_one_at_a_time(bench: Bench) -> None:
    for key in ("a", "b", "c"):
        bench.final(key)
    bench.until(lambda: len(bench.stored) == 3)
    bench.link()
    bench.sent(3)
    bench.unlink(CLOSED)
    bench.link()
    assert bench.sent(1) == ["a"]
    assert bench.sent_nothing_more()
    bench.arrive()
    assert bench.sent(1) == ["b"]
    assert bench.sent_nothing_more()
    bench.time.now_s += BLAME_S
    assert bench.sent(2) == ["b", "c"]


def poison(bench: Bench, times: int) -> None:
    for _ in range(times):
        bench.link()
        assert bench.sent(1) == ["bad"]
        bench.unlink(CLOSED)
        bench.settle()


def test_final_that_ends_five_connections_alone_is_parked_and_told_in_short(bench: Bench) -> None:
    bench.final("bad", data="x" * 10_000)
    bench.until(lambda: bench.stored)
    poison(bench, MAX_STRIKES)
    bench.until(lambda: bench.outbox.status().parked == 1)
    bench.link()
    assert bench.sent(1) == ["bad"]
    assert len(bench.flying[0].payload) < 3000
    bench.arrive()
    bench.until(lambda: len(bench.kept()) == 1)
    assert bench.outbox.status().waiting == 0
    assert [entry.parked is not None for entry in bench.outbox.entries()] == [True]


def test_final_is_not_blamed_for_fewer_or_for_later_ends(bench: Bench) -> None:
    bench.final("bad")
    bench.until(lambda: bench.stored)
    poison(bench, MAX_STRIKES - 1)
    for _ in range(3):
        bench.link()
        bench.sent(1)
        bench.time.now_s += BLAME_S + 0.1
        bench.unlink(CLOSED)
        bench.settle()
    for reason in ("dead", "dropped", "stopped"):
        bench.link()
        bench.sent(1)
        bench.unlink(LinkError(reason, ""))
        bench.settle()
    assert bench.outbox.status().parked == 0


def test_final_that_the_server_refuses_is_parked(bench: Bench) -> None:
    bench.link()
    bench.final("bad", data="x" * 5000)
    bench.sent(1)
    bench.outbox.on_refused(bench.flying.pop().ticket, "foreign_result")
    bench.until(lambda: bench.outbox.status().parked == 1)
    assert bench.sent(1) == ["bad"]  # in short
    bench.outbox.on_refused(bench.flying.pop().ticket, "foreign_result")
    assert bench.sent_nothing_more()


def test_flush_gives_parked_finals_another_chance(bench: Bench) -> None:
    bench.link()
    bench.final("bad")
    bench.sent(1)
    bench.outbox.on_refused(bench.flying.pop().ticket, "no")
    bench.sent(1)
    bench.arrive()
    assert bench.outbox.flush() == 1
    bench.unlink(LinkError("dropped", ""))
    bench.link()
    assert bench.sent(1) == ["bad"]


# -- a disk that takes nothing -------------------------------------------------------------------


class FullDisk:
    """Makes every addition fail until `mend`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        real = Store.add

        def add(store: Store, *args: Any) -> Any:
            if self.is_full:
                raise sqlite3.OperationalError("database or disk is full")
            return real(store, *args)

        monkeypatch.setattr(Store, "add", add)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


def test_full_disk_is_told_and_the_final_sent_all_the_same(bench: Bench, disk: FullDisk) -> None:
    bench.link()
    bench.final("a")
    bench.until(lambda: bench.full)
    assert bench.full == [True] and bench.outbox.is_full
    assert bench.sent(1) == ["a"]
    assert bench.stored == []
    bench.arrive()
    assert bench.stored == ["a"]
    assert bench.full == [True, False]


def test_final_is_stored_when_the_disk_has_room_again(bench: Bench, disk: FullDisk) -> None:
    bench.final("a")
    bench.until(lambda: bench.full)
    disk.is_full = False
    bench.time.now_s += outbox_module.RETRY_S
    bench.until(lambda: bench.stored == ["a"])
    assert bench.full == [True, False]
    assert bench.kept() == ["a"]
    bench.link()
    assert bench.sent(1) == ["a"]
    assert bench.sent_nothing_more()


def test_final_sent_from_memory_is_not_sent_twice_once_stored(bench: Bench, disk: FullDisk) -> None:
    bench.link()
    bench.final("a")
    assert bench.sent(1) == ["a"]
    disk.is_full = False
    bench.time.now_s += outbox_module.RETRY_S
    bench.until(lambda: bench.stored == ["a"])
    assert bench.sent_nothing_more()
    bench.arrive()
    bench.until(lambda: not bench.kept())


def test_unstored_final_is_sent_again_on_the_next_link(bench: Bench, disk: FullDisk) -> None:
    bench.link()
    bench.final("a")
    bench.sent(1)
    bench.unlink(LinkError("dead", ""))
    bench.link()
    assert bench.sent(1) == ["a"]


def test_outbox_has_a_cap(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MAX_BYTES", 3000)
    for number in range(4):
        bench.final(f"s{number}", data="x" * 800)
    bench.until(lambda: bench.full == [True])
    bench.settle()
    assert bench.kept() == ["s0", "s1", "s2"]
    bench.link()
    assert sorted(bench.sent(4)) == ["s0", "s1", "s2", "s3"]
    bench.arrive()
    assert bench.full == [True, False]


def test_file_damaged_while_running_is_replaced(bench: Bench) -> None:
    bench.final("before")
    bench.until(lambda: bench.stored)
    bench.outbox._writer.submit(_break)
    bench.settle()
    bench.final("after")
    bench.until(lambda: "after" in bench.stored)
    assert bench.kept() == ["after"]
    assert any("damaged" in record[1] for record in bench.log.records)
    bench.link()
    assert bench.sent(1) == ["after"]


def _break(store: Store) -> None:
    def corrupt(*_args: object) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    store.add = corrupt  # type: ignore[method-assign,assignment]


def test_final_that_cannot_be_written_does_not_hold_its_job(bench: Bench) -> None:
    bench.outbox.final(
        ShellClosed(session="s", reason="\ud800"), "s", on_stored=lambda: bench.stored.append("s")
    )
    bench.until(lambda: bench.stored)
    assert bench.outbox.status().waiting == 0
