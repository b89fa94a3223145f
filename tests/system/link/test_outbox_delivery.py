"""Finals through real servers that die, hold back or never acknowledge: none lost, none doubled."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.doubles.hubs import HubOptions, NodeHub, ScriptedHub
from tests.doubles.link_side import LinkSide
from wire.admin import AdminResult, Outcome, Summary
from wire.shell import ShellClosed

pytestmark = pytest.mark.family("outbox")


def store(side: LinkSide, session: str) -> None:
    """Hand a final in and wait until it is stored."""
    stored: list[bool] = []
    message = ShellClosed(session=session, code=0)
    side.call(lambda: side.outbox.final(message, session, None, lambda: stored.append(True)))
    side.until(lambda: stored)


def is_empty(side: LinkSide) -> bool:
    return side.outbox.status().waiting == 0


def durable(tmp_path: Path, **modes: object) -> ScriptedHub:
    return ScriptedHub(HubOptions(finals_file=tmp_path / "finals.jsonl", modes=dict(modes)))


@pytest.mark.parametrize("die", ["before_record", "before_ack"])
def test_hub_that_dies_over_a_final_keeps_it_once(tmp_path: Path, die: str) -> None:
    with durable(tmp_path, die=die) as hub, LinkSide(hub, tmp_path) as side:
        side.until_hello()
        store(side, "s")
        hub.wait_dead()
        hub.options.modes["die"] = None
        hub.start()
        side.until(lambda: is_empty(side))
        kept = hub.finals()
        assert {one["id"] for one in kept} == {kept[0]["id"]}
        assert kept[0]["payload"]["session"] == "s"


def test_hub_killed_at_many_moments_loses_and_doubles_nothing(tmp_path: Path, soak: bool) -> None:
    kills = 100 if soak else 8
    with durable(tmp_path) as hub, LinkSide(hub, tmp_path) as side:
        side.until_hello()
        numbers = itertools.count()
        for _ in range(kills):
            for _ in range(5):
                store(side, f"s{next(numbers)}")
            hub.kill()
            store(side, f"s{next(numbers)}")
            hub.start()
        side.until(lambda: is_empty(side), timeout_s=120)
        kept = [(one["id"], one["payload"]["session"]) for one in hub.finals()]
        sessions = [session for _, session in set(kept)]
        assert sorted(sessions) == sorted(f"s{number}" for number in range(6 * kills))


def test_final_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    with ScriptedHub(HubOptions(ping_interval_ms=200, modes={"ack": "hold"})) as hub:
        with LinkSide(hub, tmp_path) as side:
            side.until_hello()
            store(side, "s")
            hub.wait_for("shell_closed", session="s")
            # Two of the engine's pings say nothing about a final that is to be acknowledged.
            for ts in (1, 2):
                hub.emit("ping", {"ts": ts})
                hub.wait_for("pong", ts=ts)
            side.until(lambda: side.status().rtt_ms)
            assert not is_empty(side)
            hub.release()
            side.until(lambda: is_empty(side))


def test_final_reaches_a_foreign_server_at_least_once(tmp_path: Path) -> None:
    options = HubOptions(ping_interval_ms=60_000)
    with NodeHub(options) as hub, LinkSide(hub, tmp_path) as side:
        side.until_hello()
        store(side, "s")
        hub.wait_for("shell_closed", session="s")
        assert not is_empty(side)  # no ping has come since
        mark = hub.record.mark()
        hub.drop("abort")
        hub.wait_for("shell_closed", session="s", since=mark)


def test_finals_made_while_the_link_is_down_arrive_in_order(tmp_path: Path) -> None:
    with NodeHub(HubOptions(ping_interval_ms=300)) as hub, LinkSide(hub, tmp_path) as side:
        side.until_hello()
        hub.kill()
        side.until_down()
        for number in range(100):
            store(side, f"s{number}")
        mark = hub.record.mark()
        hub.start()
        hub.wait_for("shell_closed", session="s99", since=mark)
        sessions = [one.payload["session"] for one in hub.events("shell_closed", since=mark)]
        assert sessions == [f"s{number}" for number in range(100)]
        side.until(lambda: is_empty(side))


def test_finals_survive_the_agent_itself(tmp_path: Path) -> None:
    with ScriptedHub() as hub:
        side = LinkSide("http://127.0.0.1:1", tmp_path).start()
        for number in range(20):
            store(side, f"s{number}")
        side.stop()
        with LinkSide(hub, tmp_path) as again:
            hub.wait_for("shell_closed", session="s19")
            again.until(lambda: is_empty(again))


def test_large_result_reaches_a_server_that_takes_little(tmp_path: Path) -> None:
    with NodeHub(HubOptions(max_payload=16_000, ping_interval_ms=300)) as hub:
        with LinkSide(hub, tmp_path) as side:
            side.until_hello()
            outcome = Outcome(
                stdout="é" * 100_000, stderr="", summary=Summary(code=0, duration_ms=1)
            )
            message = AdminResult(command="cat", result=outcome)
            side.call(lambda: side.outbox.final(message, "job"))
            result = hub.wait_for("admin_result").payload["result"]
            assert result["summary"]["truncated"] is True
            side.until(lambda: is_empty(side))
            assert side.status().reconnects == 0
