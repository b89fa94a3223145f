"""A machine that fails the endpoint: disk, terminals, descriptors, clock, kernel, name service.

The link stays, what cannot be done is refused with its reason, and what goes on, goes on.
Fault cases C, E, J, K.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import exits
from tests.doubles import sandbox, vitals
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.tls import Authority
from workers import processes

DAY_S = 86_400
CONFIG: dict[str, Any] = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 64},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}


@contextlib.contextmanager
def linked(
    prefix: list[str], options: HubOptions | None = None, config: dict[str, Any] | None = None
) -> Iterator[tuple[ScriptedHub, AgentProcess, Console]]:
    """An agent in some world, linked to a hub; at the end it must still be on the same link."""
    with ScriptedHub(options or HubOptions(ping_every_ms=500)) as hub:
        with running_agent(hub.url, {**CONFIG, **(config or {})}, prefix=prefix) as agent:
            hub.wait_for_connection()
            with Console(hub).follow() as console:
                yield hub, agent, console


def is_one_link(hub: ScriptedHub) -> bool:
    return len(hub.connections) == 1 and not hub.record.of("disconnect")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def next_stats(hub: ScriptedHub) -> None:
    hub.wait_for("stats", since=hub.record.mark())


def test_full_disk_refuses_new_jobs_and_keeps_link_and_results(tmp_path: Path) -> None:
    options = HubOptions(finals_file=tmp_path / "finals", modes={"ack": "hold"}, ping_every_ms=500)
    with ScriptedHub(options) as hub:
        agent = AgentProcess(hub.url, CONFIG)
        with sandbox.small_disk(agent, 4) as ballast:
            agent.start()
            hub.wait_for_connection()
            console = Console(hub, ran=tmp_path / "ran").follow()
            session = console.shell()
            kept = [console.job(0) for _ in range(5)]
            agent.until(lambda: agent.ask("status")["outbox"]["count"] == 5)
            running = console.job(1.0)
            agent.until(lambda: running in console.runs())

            sandbox.fill(ballast)
            mark = hub.record.mark()
            refused = console.ask(f"sh -c 'echo never >> {tmp_path}/ran'")
            outcome = hub.wait_for("admin_result", token=refused).payload["result"]
            assert outcome["error"] == "disk_full" and outcome["summary"]["code"] in (125, 126)
            closed = hub.wait_for("shell_closed", session=console.open()).payload
            assert (closed["reason"], closed["detail"]) == ("busy", "disk_full")
            # What ran before ends well and is told, stored or not.
            told = hub.wait_for("admin_result", token=running).payload
            assert told["result"]["stdout"] == f"done {running}\n"
            console.type(session, "echo st''ill\n")
            hub.wait_for_output(session, "still\r\n")
            hub.wait_for("stats", since=mark)
            assert is_one_link(hub)

            # Even an agent that dies and starts on the full disk has what was stored.
            agent.kill()
            mark = hub.record.mark()
            agent.start()
            hub.wait_for_connection(since=mark)
            for job in kept:
                hub.wait_for("admin_result", since=mark, token=job)
            ballast.unlink()
            hub.set(ack="now")
            hub.release()
            after = console.run("echo again", timeout=40)
            assert after["result"]["stdout"] == "again\n"
            agent.until(lambda: not agent.ask("status")["outbox"]["full"])
            assert not agent.ask("status")["degraded"]
            assert sorted(console.runs()) == sorted([*kept, running])
            console.stop()
        assert agent.process is not None and agent.process.poll() is not None


@pytest.mark.parametrize("is_new", [True, False], ids=["first start", "restart"])
def test_agent_that_starts_on_a_full_disk_has_its_link_and_recovers(is_new: bool) -> None:
    """In order, too: then SQLite has taken its own files away, and cannot make them again."""
    with ScriptedHub(HubOptions(ping_every_ms=0)) as hub:
        agent = AgentProcess(hub.url, {**CONFIG, "statsIntervalSec": 1})
        with sandbox.small_disk(agent, 4) as ballast:
            console = Console(hub)
            if not is_new:
                agent.start()
                hub.wait_for("stats")
                console.run("true")
                agent.terminate()
            sandbox.fill(ballast)
            mark = hub.record.mark()
            agent.start()
            hub.wait_for("stats", since=mark)
            refused = hub.wait_for("admin_result", token=console.ask("true")).payload
            assert refused["result"]["error"] == "disk_full"
            assert "disk_full" in agent.ask("status")["degraded"]
            ballast.unlink()
            agent.until(lambda: not agent.ask("status")["degraded"])
            assert console.run("echo again")["result"]["stdout"] == "again\n"
            agent.until(lambda: not agent.ask("status")["outbox"]["count"])


def test_shell_without_terminals_is_refused_and_commands_go_on() -> None:
    with linked(sandbox.without_terminals()) as (hub, _agent, console):
        for _ in range(3):
            session = console.open()
            closed = hub.wait_for("shell_closed", session=session).payload
            assert closed["reason"] == "pty unavailable"
            assert closed["detail"]
        assert console.run("echo fine")["result"]["stdout"] == "fine\n"
        next_stats(hub)
        assert is_one_link(hub)


def test_64_descriptors_refuse_sessions_and_keep_the_link() -> None:
    with linked(sandbox.with_descriptors(64)) as (hub, agent, console):
        sessions = [console.open(first="echo op''en\n") for _ in range(60)]

        def settled() -> bool:
            closed = {e.payload["session"] for e in hub.events("shell_closed")}
            opened = {s for s in sessions if b"open" in hub.output(s)}
            return closed | opened == set(sessions)

        agent.until(settled)
        refused = [e.payload for e in hub.events("shell_closed")]
        assert 0 < len(refused) < 60
        for payload in refused:
            assert (payload["reason"], payload["detail"]) == ("busy", "resources"), payload
        assert len(refused) == len({payload["session"] for payload in refused})
        # Admins still get an answer, many at once, and nothing spins for want of descriptors.
        with contextlib.ExitStack() as crowd:
            for _ in range(24):
                asking = crowd.enter_context(socket.socket(socket.AF_UNIX))
                asking.connect(str(agent.root / "run" / "control.sock"))
            used_s = processes.cpu_time(agent.pid) or 0.0
            time.sleep(1.0)  # the stretch that is measured
            assert (processes.cpu_time(agent.pid) or 0.0) - used_s < 0.5
        assert len(agent.workers("shell")) == 60 - len(refused)
        print(f"\n{60 - len(refused)} shells, {vitals.descriptors(agent.pid)} descriptors")
        next_stats(hub)
        assert is_one_link(hub)
        # There is room for another link, too.
        mark = hub.record.mark()
        hub.drop("abort")
        hub.wait_for_connection(since=mark)
        hub.record.wait("hello", lambda _: True, 20, mark)
        assert agent.process is not None and agent.process.poll() is None
        left = [s for s in sessions if s not in {payload["session"] for payload in refused}]
        for session in left:
            assert console.close(session)["reason"] == "closed"
        console.type(console.shell(), "exit\n")
        assert console.run("echo fine")["result"]["stdout"] == "fine\n"
        assert len(hub.connections) == 2


def test_wall_clock_steps_of_a_day_move_no_timer(tmp_path: Path) -> None:
    """Timeouts, samples, pings and leases go on as if nothing had happened; no job runs again."""
    world = sandbox.preloaded(tmp_path)
    with linked(world.prefix) as (hub, agent, console):
        console.ran = tmp_path / "ran"
        session = console.shell()
        long = console.job(3.0)
        agent.until(lambda: console.runs() == [long])
        before = {row["id"]: row["pid"] for row in agent.workers()}
        for step in (DAY_S, -DAY_S):
            world.step_clock(step)
            mark = hub.record.mark()
            now_s = int(time.time())
            # Rounded half-way between two hours, on the positive side: bash cuts towards zero.
            hours = f"$(( ($(date +%s) - {now_s} + 865800) / 3600 - 240 ))"
            console.type(session, f"echo {hours}h\n")
            hub.wait_for_output(session, f"{step // 3600}h\r\n")
            start = time.monotonic()
            outcome = console.run("sleep 60", timeoutSec=1)["result"]
            assert outcome["summary"]["code"] == 124
            assert 0.9 < time.monotonic() - start < 10
            assert 900 < outcome["summary"]["durationMs"] < 10_000
            hub.wait_for("stats", since=mark)
            hub.wait_for("pong", since=mark)
        told = hub.wait_for("admin_result", token=long).payload
        assert 2_900 < told["result"]["summary"]["durationMs"] < 15_000
        left = {name: pid for name, pid in before.items() if not name.startswith("admin-")}
        agent.until(lambda: {row["id"]: row["pid"] for row in agent.workers()} == left)
        assert console.runs() == [long]
        assert is_one_link(hub)


def test_wrong_clock_is_refused_told_and_cured_by_the_right_time(tmp_path: Path) -> None:
    """Without TLS nobody vouches for the server's time: refused until the clock is right."""
    world = sandbox.preloaded(tmp_path)
    with linked(world.prefix) as (hub, agent, console):
        session = console.shell()
        world.step_clock(DAY_S)
        mark = hub.record.mark()
        hub.drop("close")
        refused = hub.record.wait("refused", lambda _: True, 20, mark)
        assert refused["message"] == "auth_expired"
        link = agent.until(lambda: _waiting(agent.ask("status")["link"]))
        assert link["last_refusal"]["reason"] == "auth_expired"
        assert re.search(r"clock off by -86[34]\d\d s", link["last_refusal"]["detail"])
        world.step_clock(0)
        hub.wait_for_connection(since=mark)
        hub.record.wait("hello", lambda _: True, 20, mark)
        console.type(session, "echo st''ill\n")
        hub.wait_for_output(session, "still\r\n")


def test_wrong_clock_is_corrected_by_a_server_that_tls_vouches_for(tmp_path: Path) -> None:
    world = sandbox.preloaded(tmp_path)
    authority = Authority(tmp_path)
    certificate = authority.issue()
    options = HubOptions(cert_file=certificate.cert, key_file=certificate.key)
    config = {"transport": {"caFile": str(authority.ca_file)}}
    with linked(world.prefix, options, config) as (hub, agent, _console):
        next_stats(hub)
        # Half an hour: outside of the signature's window, inside the certificate's life.
        world.step_clock(-1800)
        mark = hub.record.mark()
        hub.drop("close")
        hub.wait_for_connection(since=mark)
        agent.until(lambda: 1_700 < abs(agent.ask("status")["link"]["clock_off_s"]) < 1_900)
        assert "the system's clock is wrong" in agent.log_tail()


def test_command_stuck_in_the_kernel_is_given_up_and_its_place_is_free(tmp_path: Path) -> None:
    """D state: SIGKILL waits. The command's result comes all the same, at its timeout."""
    config = {"admin": {**CONFIG["admin"], "maxConcurrent": 1}}
    with sandbox.freezer(f"jl-{os.getpid()}") as ice, linked([], config=config) as (hub, agent, c):
        job = c.ask(f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 3600'", timeoutSec=1)
        agent.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        stuck = int((tmp_path / "pid").read_text())
        ice.freeze(stuck)
        agent.until(lambda: state_of(stuck) == "D")
        outcome = hub.wait_for("admin_result", token=job).payload["result"]
        assert (outcome["summary"]["code"], outcome["error"]) == (124, "timeout")
        assert "kernel" in outcome["stderr"]
        assert state_of(stuck) == "D"
        assert c.run("echo next")["result"]["stdout"] == "next\n"
        next_stats(hub)
        assert is_one_link(hub)
        ice.thaw()
        agent.until(lambda: not Path(f"/proc/{stuck}").exists())


@pytest.mark.family("faults")
def test_worker_stuck_in_the_kernel_frees_its_place_after_a_minute(soak: bool) -> None:
    if not soak:
        pytest.skip("takes the minute that it is about: make soak FAMILY=faults")
    config = {"admin": {**CONFIG["admin"], "maxConcurrent": 1}}
    with sandbox.freezer(f"jl-{os.getpid()}") as ice, linked([], config=config) as (hub, agent, c):
        session = c.shell()
        (row,) = agent.workers("shell")
        ice.freeze(row["pid"])
        frozen = time.monotonic()
        closed = hub.wait_for("shell_closed", session=session, timeout=120).payload
        assert closed["reason"] == "stalled_io"
        print(f"\na worker in the kernel was given up after {time.monotonic() - frozen:.0f} s")
        assert c.run("echo next")["result"]["stdout"] == "next\n"
        assert agent.workers("shell") == []
        assert is_one_link(hub)
        ice.thaw()
        agent.until(lambda: not vitals.marked(f"JACKLINE_JOB={row['id']}."))


@pytest.mark.family("faults")
def test_name_service_that_hangs_hangs_one_job_at_a_time_and_never_the_agent(
    tmp_path: Path,
) -> None:
    """Workers whose account lookup hangs are ended and told; those that run are not touched."""
    world = sandbox.preloaded(tmp_path)
    config = {"keys": {"baseUrl": "http://127.0.0.1:1", "targetUser": "root"}}
    with linked(world.prefix, config=config) as (hub, agent, console):
        lives = console.shell()
        world.hang_accounts(True)
        session = console.open()
        job = console.ask("true", timeoutSec=5)
        hub.emit("sync_keys", {"user": "somebody"})
        agent.until(lambda: len(agent.workers("shell")) == 2)
        start = time.monotonic()
        assert agent.command("status").returncode == 0
        assert time.monotonic() - start < 5
        console.type(lives, "echo fi''ne\n")
        hub.wait_for_output(lives, "fine\r\n")
        closed = hub.wait_for("shell_closed", session=session).payload
        assert (closed["reason"], closed["signal"]) == ("worker_stalled", signal.SIGKILL)
        print(f"\na hung account lookup was ended after {time.monotonic() - start:.0f} s")
        outcome = hub.wait_for("admin_result", token=job).payload["result"]
        assert outcome["error"] == "worker_stalled"
        keys = hub.wait_for("keys_sync_result", user="somebody").payload
        assert (keys["ok"], keys["error"]) == (False, "timeout")
        world.hang_accounts(False)
        assert console.run("echo back")["result"]["stdout"] == "back\n"
        console.type(lives, "echo st''ill\n")
        hub.wait_for_output(lives, "still\r\n")
        assert is_one_link(hub)


def test_agent_as_process_1_reaps_and_ends_its_jobs_on_sigterm(tmp_path: Path) -> None:
    options = HubOptions(finals_file=tmp_path / "finals", ping_every_ms=500)
    with linked(sandbox.as_init(), options) as (hub, agent, console):
        console.ran = tmp_path / "ran"
        (init,) = [int(p) for p in _children(agent.pid)]
        session = console.shell()
        # Daemons that outlive their shell and then end: somebody must collect each.
        for _ in range(5):
            done = console.run("sh -c '(setsid sleep 0.3 &) ; exit 0'")
            assert done["result"]["summary"]["code"] == 0
        # Without a zygote they come to process 1.
        zygote = agent.ask("status")["zygote_pid"]
        job = console.job(3600)
        agent.until(lambda: job in console.runs())
        console.type(session, "(setsid sleep 0.5 &)\n")
        world = Path(f"/proc/{init}/root/proc")
        outside = next(p for p in _children(init) if _inner_pid(p) == zygote)
        os.kill(outside, signal.SIGKILL)
        assert console.run("echo new zygote")["result"]["stdout"] == "new zygote\n"
        agent.until(lambda: not _zombies_in(world))

        mark = hub.record.mark()
        os.kill(init, signal.SIGTERM)
        closed = hub.wait_for("shell_closed", since=mark, session=session).payload
        assert closed["reason"] == "agent_stopped"
        outcome = hub.wait_for("admin_result", since=mark, token=job).payload
        assert outcome["result"]["error"] == "agent_stopped"
        assert agent.process is not None
        assert agent.process.wait(20) == exits.OK
        # Told by this agent, not left for another: acknowledged before it went.
        kept = {f["payload"].get("session") or f["payload"].get("jobId") for f in hub.finals()}
        assert {session, job} <= kept
        agent.until(lambda: not agent.processes())
        assert console.runs() == [job]


def test_kill_switch_refuses_new_jobs_and_leaves_those_that_run() -> None:
    with linked([]) as (hub, agent, console):
        session = console.shell()
        running = console.ask("sh -c 'sleep 1.5; echo finished'")
        agent.until(lambda: agent.workers("admin"))
        assert agent.command("pause", "maintenance").returncode == 0
        refused = console.open()
        closed = hub.wait_for("shell_closed", session=refused).payload
        assert (closed["reason"], closed["detail"]) == ("busy", "locked_by_host")
        outcome = console.run("true")["result"]
        assert outcome["summary"]["code"] == 126
        assert outcome["stderr"]
        hub.emit("sync_keys", {"user": "somebody"})
        keys = hub.wait_for("keys_sync_result", user="somebody").payload
        assert (keys["ok"], keys["added"]) == (False, 0)
        next_stats(hub)
        console.type(session, "echo st''ill\n")
        hub.wait_for_output(session, "still\r\n")
        done = hub.wait_for("admin_result", token=running).payload
        assert done["result"]["stdout"] == "finished\n"
        assert agent.ask("status")["paused"]
        assert agent.command("resume").returncode == 0
        assert console.run("echo open")["result"]["stdout"] == "open\n"
        assert is_one_link(hub)


def _waiting(link: dict[str, Any]) -> dict[str, Any] | None:
    return link if link["state"] == "waiting" and link["last_refusal"] else None


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def _inner_pid(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise AssertionError("no NSpid")


def _zombies_in(proc: Path) -> list[str]:
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    found.append(entry.name)
    return found
