"""One shell floods, its consumer is slow, `credit` is on: the others do not notice.

Fault cases C "`yes` in a shell"; contract 1.7 `credit`; architecture "Fairness and pressure".
"""

from __future__ import annotations

import statistics
import time

import pytest

from tests.doubles import vitals
from tests.doubles.agent_process import running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.vitals import MIB

SESSIONS = 8
CONFIG = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": SESSIONS},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}
GRANT_BYTES_PER_S = 10_000
# The 1 s for Ctrl-C; a deadline detects *never*.
DEADLINE_S = 120.0


def running(pid: int, name: str) -> bool:
    """Is a process of that name below `pid`?"""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(child) for child in file.read().split()]
        with open(f"/proc/{pid}/comm", encoding="ascii") as file:
            found = file.read().strip() == name
    except OSError:
        return False
    return found or any(running(child, name) for child in children)


@pytest.mark.family("flood")
def test_flood_is_held_at_its_source_and_the_others_echo(soak: bool) -> None:
    span_s = 60.0 if soak else 5.0
    options = HubOptions(ping_every_ms=500, modes={"credit": GRANT_BYTES_PER_S})
    with ScriptedHub(options) as hub, running_agent(hub.url, CONFIG) as agent:
        sid = hub.wait_for_connection().sid
        console = Console(hub)
        flooding, *others = [console.shell() for _ in range(SESSIONS)]
        (row,) = [row for row in agent.workers("shell") if row["job"] == flooding]
        before = vitals.memory(agent.pid)
        worker_before = vitals.memory(row["pid"])
        console.type(flooding, "yes\n")
        agent.until(lambda: running(row["child_pid"], "yes"))

        peak = worker_peak = 0
        latencies = []
        start = time.monotonic()
        turn = 0
        while time.monotonic() - start < span_s:
            turn += 1
            for session in others:
                asked = time.monotonic()
                mark = hub.record.mark()
                console.type(session, f"echo e$(({turn}+1000))\n")
                hub.wait_for(
                    "shell_output",
                    lambda payload: f"e{turn + 1000}" in payload["data"],  # noqa: B023
                    DEADLINE_S,
                    mark,
                    session=session,
                )
                latencies.append(time.monotonic() - asked)
            peak = max(peak, vitals.memory(agent.pid))
            worker_peak = max(worker_peak, vitals.memory(row["pid"]))
            time.sleep(0.1)
        flooded = len(hub.output(flooding))
        elapsed_s = time.monotonic() - start

        asked = time.monotonic()
        console.type(flooding, "\x03")
        agent.until(lambda: not running(row["child_pid"], "yes"), DEADLINE_S)
        stopped_s = time.monotonic() - asked
        hub.set(credit="auto")
        console.type(flooding, "echo af''ter\n")
        hub.wait_for_output(flooding, "after\r\n", timeout=DEADLINE_S)

        assert peak - before <= 16 * MIB
        assert worker_peak - worker_before <= 4 * MIB
        # The window, what was granted since, and what a grant is rounded to.
        assert flooded <= 64 * 1024 + GRANT_BYTES_PER_S * (elapsed_s + 2) + 32 * 1024
        assert flooded >= 64 * 1024
        assert [c.sid for c in hub.connections] == [sid]
        for session in (flooding, *others):
            assert console.close(session)["reason"] == "closed"
        print(
            f"\nagent +{(peak - before) / MIB:.1f} MiB, worker +"
            f"{(worker_peak - worker_before) / MIB:.1f} MiB; {len(latencies)} echoes, median "
            f"{statistics.median(latencies) * 1e3:.1f} ms, worst {max(latencies) * 1e3:.0f} ms; "
            f"Ctrl-C after {stopped_s * 1e3:.0f} ms"
        )


@pytest.mark.family("flood")
def test_command_that_prints_without_end_is_drained_and_stays_small(soak: bool) -> None:
    """Head and tail and true counts; the pipe is drained, the timeout obeyed, memory flat."""
    span_s = 30 if soak else 3
    with ScriptedHub() as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        console = Console(hub)
        # A large result first: an agent gives back at its start what a first one needs for good.
        assert console.run("head -c 1000000 /dev/zero")["result"]["summary"]["code"] == 0
        before = vitals.memory(agent.pid)
        outcome = console.run("yes", timeoutSec=span_s, timeout=span_s + 30)["result"]
        summary = outcome["summary"]
        assert (summary["code"], outcome["error"]) == (124, "timeout")
        assert summary["truncated"] is True
        assert outcome["stdout"].startswith("y\ny\n")
        assert summary["stdoutBytes"] > 1_000_000
        assert vitals.memory(agent.pid) - before <= 4 * MIB
