"""A link that carries as much as it can when the other side stops: found dead, left, found again.

Fault cases C "SIGSTOP hub", "Half-open: DROP both ways", with a writer that is stuck in the middle
of an event.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import vitals
from tests.doubles.agent_process import running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import Hub, HubOptions, NodeHub, ScriptedHub
from tests.doubles.network import HubInside, Network
from tests.doubles.vitals import MIB

CONFIG: dict[str, Any] = {
    "statsIntervalSec": 1,
    "heartbeatIntervalSec": 1,
    "pongTimeoutSec": 2,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 8},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}


@pytest.mark.parametrize("kind", [NodeHub, ScriptedHub])
def test_flooded_link_whose_server_stands_still_is_left_and_found_again(
    kind: type[Hub], tmp_path: Path
) -> None:
    """Nothing is read, nothing acknowledged, the system's buffers are full: dead in time all the
    same, memory as before; the shells and what was not delivered are there on the next link."""
    options = HubOptions(ping_every_ms=500, modes={"tally": ["shell_output"]})
    if kind is ScriptedHub:
        options = HubOptions(ping_every_ms=500, features=(), modes={"tally": ["shell_output"]})
    with kind(options) as hub, running_agent(hub.url, CONFIG) as agent:
        first = hub.wait_for_connection().sid
        console = Console(hub)
        flooding, quiet = console.open(first="yes\n"), console.open(first="stty -echo\n")
        hub.wait_for_tally(f"shell_output {flooding}", 100_000)
        before = vitals.memory(agent.pid)
        script = f"touch {tmp_path}/begun; sleep 1; echo kept; touch {tmp_path}/done"
        job = console.ask(f"sh -c '{script}'")
        agent.until((tmp_path / "begun").exists)
        hub.suspend()
        begun = time.monotonic()
        status = agent.until(lambda: _when_down(agent.ask("status")["link"]))
        assert status["last_refusal"]["reason"] == "dead"
        assert time.monotonic() - begun < 20
        agent.until((tmp_path / "done").exists)
        assert vitals.memory(agent.pid) - before < 16 * MIB
        mark = hub.record.mark()
        hub.resume()
        hub.wait_for_connection(since=mark)
        hub.wait_for_disconnect(first)
        result = hub.wait_for("admin_result", token=job, since=mark).payload
        assert result["result"]["stdout"] == "kept\n"
        said = hub.tally().get(f"shell_output {quiet}", {"bytes": 0})["bytes"]
        console.type(quiet, "echo st''ill\n")
        hub.wait_for_tally(f"shell_output {quiet}", said + 5, 20)
        for session in (flooding, quiet):
            assert console.close(session)["reason"] == "closed"


def test_partition_without_a_reset_is_noticed_on_both_sides_and_loses_no_result(
    tmp_path: Path,
) -> None:
    """Every packet is swallowed: dead here after pongTimeoutSec, there after its ping timeout.
    Results made meanwhile come once each and in order, telemetry only as it is now."""
    options = HubOptions(
        finals_file=tmp_path / "finals",
        ping_interval_ms=500,
        ping_timeout_ms=1500,
        ping_every_ms=500,
    )
    with Network() as network, HubInside(network, options) as hub:
        with running_agent(hub.url, CONFIG, prefix=network.prefix) as agent:
            first = hub.wait_for_connection().sid
            with Console(hub, ran=tmp_path / "ran").follow() as console:
                session = console.open(first="stty -echo; while :; do date +%N; sleep 0.05; done\n")
                jobs = [console.job(0.5 + number / 20) for number in range(6)]
                agent.until(lambda: len(console.runs()) == len(jobs))
                mark = hub.record.mark()
                network.swallow(True)
                status = agent.until(lambda: _when_down(agent.ask("status")["link"]))
                # Whichever silence is noticed first: of the contract, or of the engine below it.
                assert status["last_refusal"]["reason"] in ("dead", "timeout")
                hub.wait_for_disconnect(first, 20)
                agent.until(lambda: agent.ask("status")["outbox"]["count"] == len(jobs))
                assert hub.events("admin_result", since=mark) == []
                network.swallow(False)
                back = time.time()
                hub.wait_for_connection(since=mark)
                for job in jobs:
                    hub.wait_for("admin_result", token=job)
                agent.until(lambda: not agent.ask("status")["outbox"]["count"])
                told = [event.payload["token"] for event in hub.events("admin_result")]
                # The console asks again for what it had not heard of: the same answer again.
                assert list(dict.fromkeys(told)) == jobs
                assert all(told.count(job) <= console.asked[job] for job in jobs)
                assert sorted(console.runs()) == sorted(jobs)
                for stats in hub.events("stats", since=mark):
                    taken = datetime.fromisoformat(stats.payload["data"]["ts"])
                    assert taken.timestamp() > back - 15
                assert console.close(session)["reason"] == "closed"
                assert console.transcript(session).gaps == []


def _when_down(link: dict[str, Any]) -> dict[str, Any] | None:
    return link if link["state"] != "up" and link["last_refusal"] else None
