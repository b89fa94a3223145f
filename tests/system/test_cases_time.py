"""Clocks that nobody set, far years and odd zones: told, waited for, never crashed over.

Fault cases J "Leap/DST/TZ change, year 2038+ and 1970 start".
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import sandbox
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub

CONFIG: dict[str, Any] = {
    "statsIntervalSec": 1,
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}


def moment(text: str) -> datetime:
    """Read a time as the endpoint writes it: ISO 8601, UTC, milliseconds."""
    assert text.endswith("Z") and len(text) == len("2026-01-01T00:00:00.000Z"), text
    return datetime.fromisoformat(text)


def in_the_log(agent: AgentProcess, sentence: str) -> dict[str, Any]:
    found = agent.until(lambda: [r for r in agent.log_records() if r["msg"] == sentence])
    record: dict[str, Any] = found[0]
    return record


@pytest.mark.parametrize(
    "start, state, reason",
    [
        (datetime(1970, 1, 2, tzinfo=UTC), "clock_unset", "auth_malformed"),
        (datetime(2019, 12, 31, tzinfo=UTC), "clock_unset", "auth_expired"),
        (datetime(2040, 2, 1, tzinfo=UTC), "waiting", "auth_expired"),
    ],
    ids=["1970", "2019", "2040"],
)
def test_agent_started_in_another_year_says_so_and_waits(
    tmp_path: Path, start: datetime, state: str, reason: str
) -> None:
    """No clock battery: its own state, a try each 30 s; a far year is refused like any other."""
    world = sandbox.preloaded(tmp_path)
    world.step_clock(round(start.timestamp() - time.time()))
    with ScriptedHub() as hub, running_agent(hub.url, CONFIG, prefix=world.prefix) as agent:
        refused = hub.record.wait("refused", lambda _: True, 20)
        assert refused["message"] == reason
        link = agent.until(lambda: _in(agent.ask("status")["link"], state))
        assert link["last_refusal"]["reason"] == reason
        assert 0 <= link["last_refusal"]["ago_s"] < 30
        told = in_the_log(agent, "link is down")
        assert abs(moment(told["ts"]) - start) < timedelta(minutes=5)
        if state == "clock_unset":
            assert told["next_in_s"] == 30
            assert link["next_try_s"] > 15
            assert len(hub.record.of("refused")) == 1
        # What needs no server works: admins and timers.
        assert agent.command("worker", "list").returncode == 0
        agent.until(lambda: agent.workers("telemetry"))


def test_times_are_utc_in_every_zone_and_shells_have_the_machines() -> None:
    """A zone with an odd offset, and one with daylight saving by rule."""
    with ScriptedHub(HubOptions()) as hub:
        for zone, offset in (("Asia/Kathmandu", "+0545"), ("XXX-12:45YYY-13:45,0,365/25", "+1345")):
            mark = hub.record.mark()
            with running_agent(hub.url, CONFIG, env={"TZ": zone}) as agent:
                hub.wait_for_connection(since=mark)
                stats = hub.wait_for("stats", since=mark).payload["data"]
                now = datetime.now(UTC)
                assert abs(moment(stats["ts"]) - now) < timedelta(minutes=1)
                record = in_the_log(agent, "link is up")
                assert abs(moment(record["ts"]) - now) < timedelta(minutes=1)
                since = datetime.fromisoformat(agent.ask("status")["link"]["since"])
                assert abs(since - now) < timedelta(minutes=1)
                console = Console(hub)
                session = console.shell(f"zone-{offset}")
                console.type(session, "date +%z\n")
                hub.wait_for_output(session, f"{offset}\r\n")


def _in(link: dict[str, Any], state: str) -> dict[str, Any] | None:
    return link if link["state"] == state and link["last_refusal"] else None
