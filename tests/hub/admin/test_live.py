"""Live output: credit goes round, memory is bounded, and nobody hears another machine's."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hub.admin import live
from hub.admin.live import REPLAY_BYTES, WINDOW_BYTES, LiveOutput
from tests.doubles.job_parts import HeldLink
from wire.admin import AdminCredit, AdminOutput
from wire.limits import CREDIT_INITIAL_BYTES, CREDIT_MAX_BYTES

KEY = ("machine", "job")


class Client:
    def __init__(self, name: str = "c1") -> None:
        self.id = name
        self.events: list[tuple[str, Any]] = []

    def emit(self, event: str, payload: object) -> None:
        self.events.append((event, payload))

    @property
    def seen(self) -> bytes:
        return b"".join(base64.b64decode(p["data"]) for e, p in self.events if e == "admin_output")


class Agent:
    """Prints as far as it was granted."""

    def __init__(self, output: LiveOutput, asset_id: str = "machine") -> None:
        self.link: Any = HeldLink("agent", asset_id, "tenant")
        self.output = output
        self.credit = CREDIT_INITIAL_BYTES
        self.offset = 0

    def say(self, data: bytes) -> None:
        event = AdminOutput(
            job_id="job",
            stream="stdout",
            offset=self.offset,
            data=base64.b64encode(data).decode(),
            encoding="base64",
        )
        self.offset += len(data)
        self.credit -= len(data)
        self.output.on_output(self.link, event)

    def flood(self, at_most: int) -> int:
        """Print until there is no credit left; return how much."""
        said = 0
        while self.credit > 0 and said < at_most:
            piece = b"y" * min(self.credit, 4096)
            self.say(piece)
            said += len(piece)
        return said


@pytest.fixture
def agent() -> Agent:
    made: list[Agent] = []

    def grant(_link: object, credit: AdminCredit) -> None:
        made[0].credit += credit.bytes

    made.append(Agent(LiveOutput(grant)))
    return made[0]


def test_nobody_watching_holds_no_command_up(agent: Agent) -> None:
    assert agent.flood(4 << 20) == 4 << 20
    assert CREDIT_INITIAL_BYTES <= agent.credit <= CREDIT_MAX_BYTES


def test_watcher_that_takes_nothing_bounds_what_is_on_its_way(agent: Agent) -> None:
    client = Client()
    agent.output.watch(KEY, client)
    said = agent.flood(16 << 20)
    assert WINDOW_BYTES <= said <= WINDOW_BYTES + CREDIT_MAX_BYTES
    agent.output.taken("job", client, said)
    assert agent.flood(1) > 0
    assert client.seen == b"y" * agent.offset


def test_watcher_that_goes_lets_the_command_go_on(agent: Agent) -> None:
    slow, quick = Client("slow"), Client("quick")
    for client in (slow, quick):
        agent.output.watch(KEY, client)
    agent.flood(16 << 20)
    agent.output.taken("job", quick, agent.offset)
    assert agent.credit == 0
    agent.output.closed(slow)
    assert agent.credit > 0


def test_watcher_that_never_moves_is_let_go(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    agent.output.watch(KEY, client)
    agent.flood(16 << 20)
    agent.output.look()
    assert agent.credit == 0
    monkeypatch.setattr(live, "STALL_S", -1.0)
    agent.output.look()
    assert client.events[-1] == ("admin_lagging", {"job_id": "job"})
    assert agent.credit > 0


def test_who_comes_later_sees_the_newest_part(agent: Agent) -> None:
    agent.say(b"a" * 3000)
    agent.flood(REPLAY_BYTES)
    client = Client()
    agent.output.watch(KEY, client)
    assert set(client.seen) == {ord("y")}
    assert 0 < len(client.seen) <= REPLAY_BYTES
    first = client.events[0][1]
    assert first["offset"] == agent.offset - len(client.seen)


def test_another_machine_cannot_speak_for_a_job(agent: Agent) -> None:
    client = Client()
    agent.output.watch(KEY, client)
    Agent(agent.output, "another").say(b"forged")
    assert client.events == []


def test_all_that_is_kept_is_bounded(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TOTAL_BYTES", 10 * 4096)
    for n in range(100):
        Agent(agent.output, f"m{n}").say(b"z" * 4096)
    first, last = Client("first"), Client("last")
    agent.output.watch(("m0", "job"), first)
    agent.output.watch(("m99", "job"), last)
    assert (len(first.seen), len(last.seen)) == (0, 4096)


def test_output_that_is_no_base64_is_dropped(agent: Agent) -> None:
    client = Client()
    agent.output.watch(KEY, client)
    bad = AdminOutput(job_id="job", stream="stdout", offset=0, data="a", encoding="base64")
    agent.output.on_output(agent.link, bad)
    assert client.events == []
