"""The hub killed between a result and its acknowledgement, links cut and servers gone mute:
no final event is lost, none is doubled where the peer acknowledges.

Fault cases C; contract 1.1, 1.7 `ack`, `stream`; architecture "Outbox".
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, NodeHub, ScriptedHub
from tests.doubles.reports import NotSeenError
from tests.system.test_agent_kills import numbers_of

CONFIG = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 64},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}
COUNTER = "stty -echo; PS1=; i=0; echo co''unter; while :; do echo $((i+=1)); sleep 0.005; done\n"
RNG = random.Random()
NAMES = itertools.count(1)


def drain(agent: AgentProcess) -> None:
    """Wait until the outbox is empty: a connection that ends within 2 s of finals makes it slow,
    and one final that is alone on five such is put aside, as it should be."""
    agent.until(lambda: not agent.ask("status")["outbox"]["count"])


def die_at_a_final(hub: ScriptedHub, console: Console) -> list[str]:
    """Kill the hub on one side or the other of noting a final down, before its acknowledgement."""
    hub.set(die=RNG.choice(("before_record", "before_ack")), ack="now")
    session = f"mortal-{next(NAMES)}"
    with contextlib.suppress(OSError, AssertionError):  # it dies at once, or a little later
        console.open(session, "exit 3\n")
        console.job(RNG.uniform(0.0, 0.1))
    hub.wait_dead(20.0)
    return [session]


def die_while_acknowledging(hub: ScriptedHub, console: Console) -> list[str]:
    """Kill the hub at a random moment, its acknowledgements late or lost."""
    hub.set(die=None, ack=RNG.choice((0, 20, 200, "never")))
    mark = hub.record.mark()
    sessions = [console.open(first="exit 3\n") for _ in range(2)]
    for _ in range(3):
        console.job(RNG.uniform(0.0, 0.1))
    hub.wait_for("admin_result", since=mark)
    time.sleep(RNG.uniform(0.0, 0.15))
    hub.kill()
    return sessions


@pytest.mark.family("hub-kills")
def test_hub_killed_before_its_acknowledgement_loses_and_doubles_no_final(
    tmp_path: Path, soak: bool
) -> None:
    deaths = 100 if soak else 6
    options = HubOptions(finals_file=tmp_path / "finals", ping_every_ms=500)
    hub = ScriptedHub(options).start()
    try:
        with running_agent(hub.url, CONFIG) as agent:
            hub.wait_for_connection()
            console = Console(hub, ran=tmp_path / "ran").follow()
            sessions: list[str] = []
            for number in range(deaths):
                die = die_while_acknowledging if number % 2 else die_at_a_final
                sessions += die(hub, console)
                mark = hub.record.mark()
                hub.start()
                hub.wait_for_connection(since=mark)
                drain(agent)
            agent.until(lambda: console.results().keys() >= console.jobs.keys())
            drain(agent)
            console.stop()
            assert agent.process is not None and agent.process.poll() is None
            kept = hub.finals()
    finally:
        hub.stop()

    # A job that the hub asked for and that ran, ran once and was told once in effect: a final that
    # came twice came under one id, which is what the hub knows it by.
    ids: dict[str, set[str]] = {}
    copies: dict[str, set[str]] = {}
    for final in kept:
        payload = final["payload"]
        name = payload.get("session") or payload["jobId"]
        ids.setdefault(name, set()).add(final["id"])
        copies.setdefault(final["id"], set()).add(repr(payload))
    assert {key: seen for key, seen in copies.items() if len(seen) > 1} == {}
    assert sorted(console.runs()) == sorted(console.jobs)
    started = {e.payload["session"] for e in hub.events("shell_output")} & set(sessions)
    assert (set(console.jobs) | started) - ids.keys() == set(), "lost"
    assert {name for name in started if len(ids[name]) > 1} == set(), "doubled"
    assert {j for j in console.jobs if len(ids[j]) > console.asked[j]} == set(), "doubled"
    repeated = len(kept) - len({final["id"] for final in kept})
    print(f"\n{deaths} deaths, {len(kept)} finals kept, {repeated} came again under a known id")


@pytest.mark.family("hub-kills")
def test_foreign_hub_killed_at_random_loses_no_final(tmp_path: Path, soak: bool) -> None:
    """Without acknowledgements a final counts as delivered by a connection that lived until the
    Engine.IO ping that follows our pong. Until then it is sent again, afterwards never."""
    deaths = 100 if soak else 4
    period_s = 0.2
    confirmed_s = 2 * period_s + 1.5
    options = HubOptions(ping_interval_ms=int(period_s * 1000), ping_timeout_ms=10_000)
    hub = NodeHub(options).start()
    tokens: list[str] = []
    died: dict[str, float] = {}  # sid -> when its hub died
    try:
        with running_agent(hub.url, CONFIG) as agent:
            sid = hub.wait_for_connection().sid
            for number in range(deaths):
                mark = hub.record.mark()
                for _ in range(3):
                    tokens.append(f"token-{len(tokens)}")
                    pause = RNG.uniform(0.0, 0.2)
                    script = f"sh -c 'echo {tokens[-1]} >> {tmp_path}/ran; sleep {pause:.3f}'"
                    hub.emit("admin_run", {"token": tokens[-1], "cmd": {"command": script}})
                with contextlib.suppress(NotSeenError):
                    hub.wait_for("admin_result", since=mark)
                # The first lives long enough for every confirmation, on a slow machine too.
                time.sleep(confirmed_s + 0.3 if number == 0 else RNG.uniform(0.0, 4 * period_s))
                died[sid] = time.monotonic()
                hub.kill()
                mark = hub.record.mark()
                hub.start()
                sid = hub.wait_for_connection(since=mark).sid
                drain(agent)
            ran = Counter((tmp_path / "ran").read_text().split())

            def delivered() -> set[str]:
                return {event.payload["token"] for event in hub.events("admin_result")}

            agent.until(lambda: delivered() >= ran.keys())
            drain(agent)
    finally:
        hub.stop()
    assert set(ran.values()) == {1}
    repeats = 0
    by_token: dict[str, list[tuple[str, float]]] = {}
    for event in hub.events("admin_result"):
        by_token.setdefault(event.payload["token"], []).append((event.sid, event.at))
    for token, deliveries in by_token.items():
        repeats += len(deliveries) - 1
        for (sid, at), following in zip(deliveries, [*deliveries[1:], None], strict=True):
            lived_s = died.get(sid, float("inf")) - at
            if lived_s < period_s * 0.8:  # no ping can have followed a pong of ours
                assert following is not None, f"{token} was taken for delivered too early"
            elif lived_s > confirmed_s:
                assert following is None, f"{token} came again though it was confirmed"
    print(f"\n{deaths} deaths, {len(by_token)} results, {repeats} came again")


@pytest.mark.family("hub-kills")
def test_link_flaps_leave_streams_whole(tmp_path: Path, soak: bool) -> None:
    """While links are cut in each way, a shell's output stays contiguous, a streamed command's
    pieces are where their offsets say, and its result comes once."""
    flaps = 60 if soak else 3
    options = HubOptions(finals_file=tmp_path / "finals", ping_every_ms=500)
    with ScriptedHub(options) as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        with Console(hub, ran=tmp_path / "ran").follow() as console:
            session = console.open(first=COUNTER)
            hub.wait_for_output(session, "counter\r\n")
            flag = tmp_path / "enough"
            loop = f"i=0; while [ ! -e {flag} ]; do i=$((i+1)); echo $i; sleep 0.01; done"
            job = console.ask(f"sh -c '{loop}'", timeoutSec=600)
            hub.wait_for("admin_output", jobId=job)
            for number in range(flaps):
                mark = hub.record.mark()
                hub.drop(("close", "abort", "namespace")[number % 3])
                hub.wait_for_connection(since=mark)
                hub.wait_for("admin_output", since=mark, jobId=job)
                time.sleep(RNG.uniform(0.0, 0.2))
            flag.touch()
            result = hub.wait_for("admin_result", token=job).payload["result"]
            assert console.close(session)["reason"] == "closed"
            transcript = console.transcript(session)
        assert agent.process is not None and agent.process.poll() is None
    assert result["summary"]["code"] == 0
    assert len({f["id"] for f in hub.finals() if f["payload"].get("jobId") == job}) == 1
    whole = "".join(f"{n}\n" for n in range(1, 200_000)).encode()
    assert result["summary"]["stdoutBytes"] == len(whole[: result["summary"]["stdoutBytes"]])
    pieces = [event.payload for event in hub.events("admin_output", jobId=job)]
    for piece in pieces:
        is_coded = piece.get("encoding") == "base64"
        data = base64.b64decode(piece["data"]) if is_coded else piece["data"].encode()
        assert data == whole[piece["offset"] : piece["offset"] + len(data)]
    offsets = [piece["offset"] for piece in pieces]
    assert offsets == sorted(set(offsets))
    assert transcript.gaps == []
    print(f"\n{flaps} flaps, {numbers_of(transcript)} lines, {len(pieces)} pieces of a command")


def test_hub_that_stands_still_is_left_and_found_again(tmp_path: Path) -> None:
    """TCP up, nothing answered (a partition without a reset): the link is dead after
    pongTimeoutSec, the shell is not, and what was said meanwhile comes once."""
    config = {**CONFIG, "heartbeatIntervalSec": 1, "pongTimeoutSec": 2}
    options = HubOptions(finals_file=tmp_path / "finals", ping_every_ms=500)
    with ScriptedHub(options) as hub, running_agent(hub.url, config) as agent:
        first = hub.wait_for_connection().sid
        with Console(hub, ran=tmp_path / "ran").follow() as console:
            session = console.open(first=COUNTER)
            hub.wait_for_output(session, "counter\r\n")
            job = console.job(tmp_path / "go")
            agent.until(lambda: console.runs() == [job])
            mark = hub.record.mark()
            hub.suspend()
            (tmp_path / "go").touch()
            status = agent.until(lambda: _when_down(agent.ask("status")["link"]))
            assert status["last_refusal"]["reason"] == "dead", status
            agent.until(lambda: agent.ask("status")["outbox"]["count"] == 1)
            hub.resume()
            second = hub.wait_for_connection(since=mark).sid
            assert second != first
            hub.wait_for_disconnect(first)
            result = hub.wait_for("admin_result", token=job).payload
            assert result["result"]["stdout"] == f"done {job}\n"
            agent.until(lambda: not agent.ask("status")["outbox"]["count"])
            assert console.close(session)["reason"] == "closed"
            assert console.transcript(session).gaps == []
            numbers_of(console.transcript(session))
            told = {f["id"] for f in hub.finals() if f["payload"].get("jobId") == job}
            assert len(told) <= console.asked[job]  # once, and again where the hub asked again
            assert console.runs() == [job]


def test_foreign_hub_that_never_says_hello_is_served_in_full(tmp_path: Path) -> None:
    """Stats on schedule, shells, commands; what waited in the outbox comes 5 s after the CONNECT
    reply."""
    options = HubOptions(modes={"helloAck": "never"}, ping_interval_ms=300)
    hub = NodeHub(options).start()
    try:
        with running_agent(hub.url, CONFIG) as agent:
            hub.wait_for_connection()
            request = {"command": f"sh -c 'echo ran >> {tmp_path}/ran; sleep 0.5; echo kept'"}
            hub.emit("admin_run", {"token": "while-away", "cmd": request})
            agent.until((tmp_path / "ran").exists)
            hub.kill()
            agent.until(lambda: agent.ask("status")["outbox"]["count"] == 1)
            mark = hub.record.mark()
            hub.start()
            at = hub.wait_for_connection(since=mark).at
            console = Console(hub)
            console.shell()
            hub.emit("admin_run", {"token": "now", "cmd": {"command": "echo now"}})
            now = hub.wait_for("admin_result", token="now")
            late = hub.wait_for("admin_result", token="while-away")
            assert now.payload["result"]["stdout"] == "now\n"
            assert late.payload["result"]["stdout"] == "kept\n"
            assert 4.5 < late.at - at < 15.0
            assert len(hub.events("stats")) >= 3
            assert (tmp_path / "ran").read_text() == "ran\n"
    finally:
        hub.stop()


def _when_down(link: dict) -> dict | None:
    return link if link["state"] != "up" and link["last_refusal"] else None
