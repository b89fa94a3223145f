"""Days of work in minutes: shells, commands, keys typed, links lost; nothing of it stays behind.

Fault cases J "72-h-equivalent soak".
"""

from __future__ import annotations

import time

import pytest

from tests.doubles import vitals
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.reports import Json
from tests.doubles.vitals import MIB, Vitals

AT_ONCE = 4
KEYS = 50
CONFIG = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": AT_ONCE + 1},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}


def work_a_while(console: Console) -> None:
    """Open shells, type key by key, run a command, list a directory, close."""
    hub = console.hub
    mark = hub.record.mark()
    sessions = [console.open(first="PS1=; stty -echo\n") for _ in range(AT_ONCE)]
    for session in sessions:
        for key in f"echo {session:>{KEYS - 11}} do''ne\n":
            console.type(session, key)
    job = console.ask("echo fine")
    listing = {"clientId": "agent-1", "requestId": job, "mode": "local", "path": "/"}
    hub.emit("dir_list_request", listing)
    for session in sessions:
        # Each look from the round's own beginning: the record of days is long.
        hub.record.wait("event", _Said(session, "done\r\n"), 40, mark)
    result = hub.wait_for("admin_result", token=job, since=mark).payload["result"]
    assert result["stdout"] == "fine\n"
    hub.wait_for("dir_list_response", requestId=job, since=mark)
    for session in sessions:
        hub.emit("shell_close", {"session": session})
    for session in sessions:
        closed = hub.wait_for("shell_closed", session=session, since=mark).payload
        assert closed["reason"] == "closed"


class _Said:
    """Has a session said this by now? Asked of each report once, in order."""

    def __init__(self, session: str, text: str) -> None:
        self._session = session
        self._text = text
        self._seen = ""

    def __call__(self, report: Json) -> bool:
        if report["event"] != "shell_output" or report["args"][0]["session"] != self._session:
            return False
        self._seen += report["args"][0]["data"]
        return self._text in self._seen


def settled(agent: AgentProcess) -> bool:
    """Is nothing left to do: no job, nothing unsent, nobody uncollected?"""
    status = agent.ask("status")
    is_idle = {row["kind"] for row in status["workers"]} <= {"telemetry"}
    uncollected = vitals.zombies(agent.pid) + vitals.zombies(status["zygote_pid"])
    return is_idle and not status["outbox"]["count"] and not uncollected


@pytest.mark.family("soak")
def test_endpoint_is_as_small_after_days_of_work_as_at_its_beginning(soak: bool) -> None:
    rounds, warm = (500, 50) if soak else (4, 2)
    allowed = (1.0 if soak else 3.0) * MIB
    with ScriptedHub(HubOptions(ping_every_ms=500)) as hub:
        with running_agent(hub.url, CONFIG) as agent:
            hub.wait_for_connection()
            console = Console(hub)
            begun = time.monotonic()
            zygote = agent.ask("status")["zygote_pid"]
            followed = {"agent": Vitals(agent.pid), "zygote": Vitals(zygote)}
            threads = 0
            for number in range(warm + rounds):
                work_a_while(console)
                mark = hub.record.mark()
                hub.drop(("abort", "close", "namespace")[number % 3])
                hub.record.wait("hello", lambda _: True, 40, mark)
                agent.until(lambda: settled(agent))
                if number == warm - 1:
                    threads = vitals.threads(agent.pid)
                if number >= warm:
                    for vital in followed.values():
                        vital.sample()
            spent_s = time.monotonic() - begun
            assert vitals.threads(agent.pid) == threads
            assert agent.ask("status")["zygote_pid"] == zygote
            for name, vital in followed.items():
                memory, descriptors = vital.growth()
                assert memory <= allowed, f"{name}: {vital.report()}"
                assert abs(descriptors) <= 2, f"{name}: {vital.report()}"
            connects = len(hub.connections)
    total = (warm + rounds) * AT_ONCE
    print(
        f"\n{total} shells, {total * KEYS} keys, {connects - 1} reconnects in {spent_s:.0f} s; "
        + "; ".join(f"{name}: {vital.report()}" for name, vital in followed.items())
    )
