"""What a connection's reports become: answers at once, calls on the core thread, pressure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent.connection import BACKLOG_BYTES, MAX_ANSWERS, Connection, Signal
from agent.errors import LinkError, MalformedError
from agent.link_types import Hello, LinkUp
from agent.outgoing import Ack, Item, Outgoing, Plain
from agent.packets import Acknowledged, Event
from agent.presence import Presence
from wire.events import Direction, decode
from wire.link import Pong
from workers.loop import Loop, now_s

DEADLINE_S = 120.0


class Calls:
    """The core: a list of what was called."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.made.append((name, args[0] if len(args) == 1 else args))


_benches: list[Bench] = []


@pytest.fixture(autouse=True)
def closed_benches() -> Iterator[None]:
    yield
    while _benches:
        _benches.pop().loop.close()


class Bench:
    """One connection with everything round it, but no socket."""

    def __init__(self) -> None:
        self.loop = Loop()
        _benches.append(self)
        self.core = Calls()
        self.outgoing = Outgoing()
        self.signals: list[Signal] = []
        self.allowed: list[frozenset[str] | None] = []
        self.presence = Presence(20, 90, now_s())
        self.connection = Connection(
            "websocket",
            self.loop,
            self.core,
            self.outgoing,
            ("ack", "credit"),
            self.presence,
            self.signals.append,
        )
        self.connection.allow = self.allowed.append

    def open(self) -> Bench:
        self.connection.on_open("sid", 1000)
        self.turn()
        self.core.made.clear()
        return self

    def event(self, name: str, payload: str, ack_id: int | None = None) -> None:
        self.connection.on_event(Event(name, payload.encode(), ack_id), len(payload))

    def turn(self) -> list[tuple[str, Any]]:
        self.loop.turn(0)
        return self.core.made

    def queued(self) -> list[Item]:
        items: list[Item] = []
        while (item := self.outgoing.take(timeout_s=0)) is not None:
            items.append(item)
        return items


def test_ping_is_answered_without_the_core() -> None:
    bench = Bench().open()
    bench.event("ping", '{"ts":17}')
    assert bench.queued() == [Plain(Pong(ts=17))]
    assert bench.turn() == []


def test_event_reaches_the_core_as_a_message() -> None:
    bench = Bench().open()
    bench.event("shell_input", '{"session":"s","data":"x"}')
    expected = decode(Direction.TO_AGENT, "shell_input", '{"session":"s","data":"x"}')
    assert bench.turn() == [("on_event", expected)]


def test_bad_event_reaches_the_core_with_what_it_is_about() -> None:
    bench = Bench().open()
    bench.event("shell_start", '{"session":"s","cols":"wide"}')
    ((name, error),) = bench.turn()
    assert (name, error.reason, dict(error.ids)) == (
        "on_bad_event",
        "bad_request",
        {"session": "s"},
    )


def test_malformed_packet_is_a_bad_event() -> None:
    bench = Bench().open()
    bench.connection.on_malformed(MalformedError("nothing"))
    assert [name for name, _ in bench.turn()] == ["on_bad_event"]


def test_event_that_asks_for_an_acknowledgement_gets_one() -> None:
    bench = Bench().open()
    bench.event("shell_close", '{"session":"s"}', ack_id=9)
    assert bench.queued() == [Ack(9)]


def test_hello_and_events_wait_for_the_connect_reply() -> None:
    bench = Bench()
    bench.event("hello_ack", '{"features":["ack","resume"],"serverTs":5}')
    bench.event("shell_close", '{"session":"s"}')
    bench.event("ping", '{"ts":1}')
    assert bench.turn() == []
    assert bench.queued() == []
    bench.connection.on_open("sid", None)
    names = [name for name, _ in bench.turn()]
    assert names == ["on_up", "on_hello", "on_event"]
    assert bench.core.made[0][1] == LinkUp("sid", "websocket", None)
    assert bench.core.made[1][1] == Hello(frozenset({"ack"}), 5)
    assert bench.queued() == [Plain(Pong(ts=1))]


def test_hello_of_a_foreign_server_has_no_features() -> None:
    for payload in ("", "null", "{}", '{"anything":1}'):
        bench = Bench().open()
        bench.event("hello_ack", payload)
        assert bench.turn() == [("on_hello", Hello(None, None))]
        assert bench.allowed == [None]


def test_acknowledgement_and_refusal_of_a_final() -> None:
    bench = Bench().open()
    bench.connection.on_acknowledged(Acknowledged(4))
    bench.connection.on_acknowledged(Acknowledged(5, b'"duplicate"'))
    bench.connection.on_acknowledged(Acknowledged(6, b'{"error":"too_large"}'))
    bench.connection.on_acknowledged(Acknowledged(7, b'{"error":'))
    assert bench.turn() == [
        ("on_arrived", [4]),
        ("on_arrived", [5]),
        ("on_refused", (6, "too_large")),
        ("on_arrived", [7]),
    ]


def test_unacknowledged_final_arrives_with_the_engines_next_ping() -> None:
    bench = Bench().open()
    bench.connection.written(1, wants_ack=False)
    bench.connection.written(2, wants_ack=True)
    bench.connection.pong_written()
    bench.connection.on_engine_ping()
    arrived = [call for call in bench.turn() if call[0] == "on_arrived"]
    assert arrived == [("on_arrived", [1])]


def test_reader_waits_while_the_core_is_behind_and_answers_are_not_lost() -> None:
    bench = Bench().open()
    size = 256 * 1024
    count = 4 * BACKLOG_BYTES // size
    body = '{"session":"s","data":"' + "x" * size + '"}'

    def read() -> None:
        for _ in range(count):
            bench.event("shell_input", body)

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    while reader.is_alive() or len(bench.core.made) < count:
        bench.loop.turn(0.1)
        behind = bench.connection._received - bench.connection._consumed
        assert behind <= BACKLOG_BYTES + size + 4096
    assert len(bench.core.made) == count


def test_reader_waits_while_answers_pile_up() -> None:
    bench = Bench().open()

    def read() -> None:
        for ts in range(MAX_ANSWERS + 10):
            bench.event("ping", f'{{"ts":{ts}}}')

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    answers: list[Item] = []
    while len(answers) < MAX_ANSWERS + 10:
        answers += bench.queued()
    reader.join(DEADLINE_S)
    assert [item.message.ts for item in answers if isinstance(item, Plain)] == list(  # type: ignore[union-attr]
        range(MAX_ANSWERS + 10)
    )


def test_abandoned_reader_goes_on() -> None:
    bench = Bench().open()
    body = '{"session":"s","data":"' + "x" * BACKLOG_BYTES + '"}'
    reader = threading.Thread(target=lambda: bench.event("shell_input", body))
    reader.start()
    bench.connection.abandon()
    reader.join(DEADLINE_S)
    assert not reader.is_alive()


def test_closing_is_a_signal_for_the_links_thread() -> None:
    bench = Bench()
    error = LinkError("closed", "the connection was closed")
    bench.connection.on_closed(error)
    assert bench.signals == [error]
