"""More than anybody should send: the link stays, each refusal is told once, no byte is lost.

Fault cases C "`shell_start` storm", "100k tiny events", "10 MB `shell_input`", "`shell_resize`",
"parent loop is blocked".
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.doubles import vitals
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.vitals import MIB

PLACES = 4
CONFIG = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": PLACES},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
    "keys": {"baseUrl": "http://127.0.0.1:1"},
}
# Sleeps in the core's own thread when it is told to; the link's threads go on.
BLOCKED = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep({seconds}))
from workers.program import main
sys.exit(main())
"""


@pytest.mark.family("storm")
def test_storm_of_starts_is_held_at_the_limit_and_each_refusal_told_once(soak: bool) -> None:
    starts = 10_000 if soak else 1_200
    options = HubOptions(ping_every_ms=100)
    with ScriptedHub(options) as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        sessions = [f"storm-{number}" for number in range(starts)]
        begun = time.monotonic()
        for number, session in enumerate(sessions):
            hub.emit("shell_start", {"session": session})
            # At most 1,000 a second: no slower than this machine.
            time.sleep(max(0.0, begun + number / 1000 - time.monotonic()))
        took_s = time.monotonic() - begun
        # Those that are open, and no other, answer; all others were refused.
        live = agent.until(lambda: [row["job"] for row in agent.workers("shell")])
        assert len(live) == PLACES
        agent.until(lambda: len(hub.events("shell_closed")) >= starts - PLACES)
        for session in live:
            hub.emit("shell_input", {"session": session, "data": "echo he''re\n"})
            hub.wait_for_output(session, "here\r\n")
            hub.emit("shell_close", {"session": session})
        for session in live:
            closed = hub.wait_for("shell_closed", session=session).payload
            assert closed["reason"] == "closed"
        told = Counter(event.payload["session"] for event in hub.events("shell_closed"))
        assert told == dict.fromkeys(sessions, 1)
        reasons = Counter(
            (event.payload["reason"], event.payload.get("detail"))
            for event in hub.events("shell_closed")
        )
        assert set(reasons) <= {
            ("closed", None),
            ("busy", "max_concurrent"),
            ("rate_limited", None),
        }
        assert reasons["closed", None] == PLACES
        # Every ping of that time was answered, on the one link.
        assert len(hub.events("pong")) >= int(took_s / 0.1) - 20
        assert len(hub.connections) == 1 and not hub.record.of("disconnect")
        agent.until(lambda: not agent.ask("status")["outbox"]["count"])
        print(f"\n{starts} starts in {took_s:.1f} s: {dict(reasons)}")


@pytest.mark.family("storm")
def test_many_tiny_inputs_arrive_whole_and_in_order(soak: bool) -> None:
    """A program that reads late finds what was typed, byte by byte, as it was typed."""
    count = 100_000 if soak else 8_000
    rng = random.Random(7)
    pieces = [
        "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789 é", k=rng.randrange(1, 6)))
        for _ in range(count)
    ]
    typed = "".join(pieces).encode()
    with ScriptedHub() as hub, running_agent(hub.url, CONFIG):
        hub.wait_for_connection()
        console = Console(hub)
        session = console.shell()
        read = f"stty raw -echo; echo go''; sleep 1; head -c {len(typed)} | sha256sum; stty sane\n"
        console.type(session, read)
        hub.wait_for_output(session, "go\n")
        for piece in pieces:
            console.type(session, piece)
        hub.wait_for_output(session, hashlib.sha256(typed).hexdigest())
        assert console.close(session)["reason"] == "closed"
        assert len(hub.connections) == 1


def test_input_of_ten_megabytes_ends_its_session_alone() -> None:
    with ScriptedHub() as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        console = Console(hub)
        first, session, other = console.shell(), console.shell(), console.shell()
        # The first one takes what an agent gave back at its start; the second must add nothing.
        console.type(first, "x" * 10_000_000)
        closed = hub.wait_for("shell_closed", session=first).payload
        assert closed["reason"] == "too_large"
        before = vitals.memory(agent.pid)
        console.type(session, "x" * 10_000_000)
        closed = hub.wait_for("shell_closed", session=session).payload
        assert closed["reason"] == "too_large"
        console.type(other, "echo st''ill\n")
        hub.wait_for_output(other, "still\r\n")
        assert len(hub.connections) == 1
        # What it took to look at it is given back.
        agent.until(lambda: vitals.memory(agent.pid) - before <= 4 * MIB)


def test_storm_of_sizes_reaches_the_program_at_most_twenty_times_a_second(tmp_path: Path) -> None:
    """Coalesced, the last one wins; what is no size changes nothing."""
    program = tmp_path / "sizes.py"
    program.write_text(
        "import os, signal, sys\n"
        "count = 0\n"
        "def resized(*_):\n"
        "    global count\n"
        "    count += 1\n"
        "signal.signal(signal.SIGWINCH, resized)\n"
        "print('up', flush=True)\n"
        "for line in sys.stdin:\n"
        "    size = os.get_terminal_size()\n"
        "    print('seen', count, size.columns, size.lines, flush=True)\n"
    )
    with ScriptedHub() as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        console = Console(hub)
        session = console.shell()
        console.type(session, f"exec {sys.executable} {program}\n")
        hub.wait_for_output(session, "up\r\n")
        (row,) = agent.workers("shell")
        begun = time.monotonic()
        for number in range(1_500):
            size = {"cols": 1 + number % 1000, "rows": 1 + number % 300}
            hub.emit("shell_resize", {"session": session, **size})
        for cols, rows in ((0, 0), (-1, 5), (10**9, 5), ("a", 5), (1001, 5), (5, None), (2.5, 5)):
            hub.emit("shell_resize", {"session": session, "cols": cols, "rows": rows})
        hub.raw("2/agents," + json.dumps(["shell_resize", {"session": session, "cols": math.nan}]))
        hub.emit("shell_resize", {"session": session, "cols": 123, "rows": 45})

        def told() -> list[str]:
            mark = hub.record.mark()
            console.type(session, "\n")
            event = hub.wait_for(
                "shell_output", lambda p: "seen" in p["data"], since=mark, session=session
            )
            return str(event.payload["data"]).split()

        agent.until(lambda: told()[-2:] == ["123", "45"])
        elapsed_s = time.monotonic() - begun
        count = int(told()[-3])
        assert 0 < count <= 20 * elapsed_s + 2
        assert [row["pid"] for row in agent.workers("shell")] == [row["pid"]]
        assert len(hub.connections) == 1


def test_core_that_stands_still_is_told_and_pings_are_answered_meanwhile(
    tmp_path: Path,
) -> None:
    """A shell, a command, a key sync and a backup asked for meanwhile are answered afterwards."""
    seconds = 2.0
    with ScriptedHub(HubOptions(ping_every_ms=100)) as hub:
        agent = AgentProcess(hub.url, CONFIG)
        agent.program = [sys.executable, "-P", "-c", BLOCKED.format(seconds=seconds)]
        try:
            agent.start()
            hub.wait_for_connection()
            console = Console(hub)
            session = console.shell()
            mark = hub.record.mark()
            blocked = time.monotonic()
            os.kill(agent.pid, signal.SIGUSR1)
            job = console.ask("echo la''te")
            console.type(session, "echo la''te\n")
            hub.emit("sync_keys", {"user": "somebody"})
            plan = {"planId": "p", "sourceDirs": [str(tmp_path)], "destRoot": "relative"}
            hub.emit("backup_plan", plan)
            # Ten answers in the middle of it: not from the core, which sleeps.
            answered = threading.Event()
            pongs = []
            while time.monotonic() - blocked < seconds * 0.8:
                pongs = hub.events("pong", since=mark)
                answered.wait(0.02)
            assert len(pongs) >= 5
            assert not hub.events("admin_result", since=mark)
            hub.wait_for("admin_result", token=job, since=mark)
            hub.wait_for("keys_sync_result", user="somebody", since=mark)
            hub.wait_for("backup_error", planId="p", since=mark)
            hub.wait_for_output(session, "late\r\n")
            assert len(hub.connections) == 1
            (alarm,) = agent.until(
                lambda: [r for r in agent.log_records() if r["msg"] == "the core stood still"]
            )
            assert alarm["level"] == "warning"
            assert seconds - 0.6 <= alarm["for_s"] < seconds + 10
        finally:
            agent.close()
