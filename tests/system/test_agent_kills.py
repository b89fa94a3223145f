"""The agent killed, stopped and started again: its jobs live on, are found again, and told once.

Fault cases C and E; contract 1.7 `resume`, `ack`, `jobs`.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent import exits
from tests.doubles import sandbox, vitals
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console, Transcript
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.facilities import only_if

CONFIG = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 64},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}
# A terminal turns \n into \r\n.
COUNTER = "stty -echo; PS1=; i=0; echo co''unter; while :; do echo $((i+=1)); sleep 0.005; done\n"
FLOOD = "stty -echo; PS1=; i=0; echo co''unter; while :; do echo $((i+=1)); done\n"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def numbers_of(transcript: Transcript) -> int:
    """Check that a counter's output has every number in order, save in its gaps; return the last.

    A gap may cut a number in two: the first and last line of a piece beside a gap do not count.
    """
    last = 0
    for index, piece in enumerate(transcript.pieces()):
        text = piece.decode("ascii")
        if index == 0:
            text = text[text.index("counter\r\n") + 9 :]
        lines = text.split("\r\n")
        whole = lines[1 if index else 0 : -1]
        numbers = [int(line) for line in whole]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "not contiguous"
        assert numbers[0] > last if index else numbers[0] == 1
        last = numbers[-1]
    return last


def _in_short(result: dict[str, Any]) -> tuple[str, int, str | None]:
    return result["stdout"], result["summary"]["code"], result.get("error")


def end_by_force(agent: AgentProcess) -> None:
    """What a power cut does to the processes: agent, zygote, workers and their jobs, at once."""
    jobs = agent.job_processes()
    workers = [pid for pid in agent.processes() if pid != agent.pid]
    doomed = [*workers, *jobs]
    agent.kill()  # in this order, so that none has the time to tell of another's death
    for pid in doomed:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    agent.until(lambda: not [pid for pid in agent.processes() if pid in doomed])


@pytest.mark.family("agent-kills")
def test_agent_killed_again_and_again_loses_nothing_and_runs_nothing_twice(
    tmp_path: Path, soak: bool
) -> None:
    """Shells are adopted, their streams contiguous by offset or with a told gap; each command runs
    once and each result comes once, even though the hub asks again for what it did not hear of."""
    kills = 50 if soak else 5
    rng = random.Random()
    options = HubOptions(finals_file=tmp_path / "finals", ping_every_ms=500)
    with ScriptedHub(options) as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        with Console(hub, ran=tmp_path / "ran").follow() as console:
            slow = console.open(first=COUNTER)
            fast = console.open(first=FLOOD)
            for session in (slow, fast):
                hub.wait_for_output(session, "counter\r\n")
            workers = {row["id"]: row["pid"] for row in agent.workers("shell")}
            for _ in range(kills):
                # Anywhere: at work, during adoption, before the link is up, long after.
                until = time.monotonic() + rng.uniform(0.2, 1.6)
                for _ in range(2):
                    with contextlib.suppress(AssertionError):
                        console.job(rng.choice((0.0, 0.05, 0.5, 1.5)))
                time.sleep(max(0.0, until - time.monotonic()))
                agent.kill()
                agent.start()
            hub.wait_for("stats", since=hub.record.mark())
            agent.until(lambda: console.results().keys() >= console.jobs.keys())
            assert {row["id"]: row["pid"] for row in agent.workers("shell")} == workers
            for session in (slow, fast):
                assert console.close(session)["reason"] == "closed"
            agent.until(lambda: not agent.ask("status")["outbox"]["count"])

        finals = hub.finals()
        not_begun = set()
        for job in console.jobs:
            mine = [final for final in finals if final["payload"].get("jobId") == job]
            outcomes = {_in_short(final["payload"]["result"]) for final in mine}
            assert len(outcomes) == 1, (job, console.asked[job], mine)
            (outcome,) = outcomes
            if outcome[:2] == ("", 125) and outcome[2] in ("agent_restarted", "unknown_outcome"):
                # Killed between the job's record and its start: told, and it never ran.
                not_begun.add(job)
            else:
                assert outcome == (f"done {job}\n", 0, None), (job, mine)
        assert sorted(console.runs()) == sorted(console.jobs.keys() - not_begun)
        # Exactly once in effect: the same final may come again under the id that the hub knows;
        # another only where the hub itself asked again.
        heard = {(final["payload"].get("jobId"), final["id"]) for final in finals}
        told = Counter(job for job, _ in heard if job is not None)
        assert told.keys() == console.jobs.keys()
        assert {job: ids for job, ids in told.items() if ids > console.asked[job]} == {}
        assert console.transcript(slow).gaps == []
        counted = numbers_of(console.transcript(slow))
        flood = console.transcript(fast)
        print(
            f"\n{kills} kills, {len(console.jobs)} commands, {len(not_begun)} not begun; "
            f"slow: {counted} lines; fast: "
            f"{numbers_of(flood)} lines, {len(flood.gaps)} gaps, {len(flood.data)} bytes"
        )


def test_agent_after_a_reboot_reports_each_job_once_as_lost(tmp_path: Path) -> None:
    """State directory kept, run directory and processes gone, another boot id: nothing is adopted,
    nothing runs again, and a second start has nothing more to say."""
    only_if(BOOT_ID.exists(), "the kernel has no boot id")
    fresh = tmp_path / "boot_id"
    fresh.write_text("11111111-2222-4333-8444-555555555555\n")
    options = HubOptions(finals_file=tmp_path / "finals")
    with ScriptedHub(options) as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        console = Console(hub, ran=tmp_path / "ran")
        sessions = [console.shell() for _ in range(3)]
        jobs = [console.job(3600) for _ in range(3)]
        agent.until(lambda: sorted(console.runs()) == sorted(jobs))
        end_by_force(agent)
        shutil.rmtree(agent.root / "run")
        (agent.root / "run").mkdir(mode=0o700)
        agent.prefix = sandbox.mounts(f"mount --bind {fresh} {BOOT_ID}")
        for _ in range(2):
            mark = hub.record.mark()
            agent.start()
            connection = hub.wait_for_connection(since=mark)
            assert connection.auth["bootId"] == fresh.read_text().strip()
            hub.wait_for("stats", since=mark)
            agent.until(lambda: not agent.ask("status")["outbox"]["count"])
            assert agent.workers("shell") == agent.workers("admin") == []
            agent.kill()
        closed = {final["payload"].get("session"): final["payload"] for final in hub.finals()}
        assert {name: closed[name]["reason"] for name in sessions} == dict.fromkeys(
            sessions, "agent_restarted"
        )
        # Killed right after an acknowledgement, the agent may say a final again, under its id.
        told = {final["id"]: final["payload"] for final in hub.finals()}
        results = {p["jobId"]: p for p in told.values() if "jobId" in p}
        assert results.keys() == set(jobs)
        for payload in results.values():
            assert payload["result"]["error"] == "unknown_outcome"
            assert payload["result"]["summary"]["code"] == 125
            assert payload["result"]["stderr"]
        assert len(told) == len(sessions) + len(jobs)
        assert sorted(console.runs()) == sorted(jobs)


def test_agent_restarted_in_order_keeps_an_open_shell_and_a_running_command(
    tmp_path: Path,
) -> None:
    """SIGTERM is a restart or an upgrade: the jobs stay, under the same ids."""
    with ScriptedHub() as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        with Console(hub, ran=tmp_path / "ran").follow() as console:
            session = console.shell()
            console.type(session, "kept=$$\n")
            job = console.job(tmp_path / "go")
            agent.until(lambda: console.runs() == [job])
            before = {row["id"]: row["pid"] for row in agent.workers() if row["job"]}
            assert agent.terminate() == exits.OK
            mark = hub.record.mark()
            agent.start()
            told = hub.wait_for_connection(since=mark).auth["jobs"]
            assert {(one["id"], one["kind"]) for one in told} == {
                (session, "shell"),
                (job, "admin"),
            }
            after = {row["id"]: row["pid"] for row in agent.workers() if row["job"]}
            assert after == before
            (tmp_path / "go").touch()
            console.type(session, "[ $kept = $$ ] && echo sa''me\n")
            hub.wait_for_output(session, "same\r\n")
            (result,) = [hub.wait_for("admin_result", token=job).payload]
            assert result["result"]["stdout"] == f"done {job}\n"
            assert console.runs() == [job]
            assert console.transcript(session).gaps == []


def test_second_agent_on_one_state_directory_ends_and_says_why() -> None:
    with ScriptedHub() as hub, running_agent(hub.url, CONFIG) as agent:
        hub.wait_for_connection()
        second = agent.command("run", "--config", str(agent.config_file))
        assert second.returncode == exits.TRY_LATER == 75
        assert "already running" in second.stderr.lower() or "runs" in second.stderr.lower()
        assert re.match(r"jackline: \S", second.stderr)
        assert [c.query["clientId"] for c in hub.connections] == ["agent-1"]
        assert agent.ask("status")["pid"] == agent.pid


def test_jobs_of_an_agent_that_never_comes_back_end_with_their_lease(tmp_path: Path) -> None:
    """Idle workers end in 2 s, jobs when their lease runs out, the zygote after the last."""
    config = {**CONFIG, "shell": {**CONFIG["shell"], "detachedTimeoutSec": 1}}  # type: ignore[dict-item]
    with ScriptedHub() as hub, running_agent(hub.url, config) as agent:
        hub.wait_for_connection()
        console = Console(hub, ran=tmp_path / "ran").follow()
        session = console.shell()
        job = console.job(0.2)
        agent.until(lambda: console.runs() == [job])
        mark = f"JACKLINE_JOB={agent.workers('shell')[0]['id']}."
        agent.kill()
        agent.until(lambda: not vitals.marked(mark))
        # Nothing that was finished is lost, though nobody was there to hear it.
        agent.start()
        payload = hub.wait_for("admin_result", token=job).payload
        assert payload["result"]["stdout"] == f"done {job}\n"
        closed = hub.wait_for("shell_closed", session=session).payload
        assert closed["reason"] == "lease_expired"
        console.stop()


def test_machine_that_slept_reconnects_once_and_ends_no_job(tmp_path: Path) -> None:
    """Everything of the endpoint stands still, as in a suspend: one reconnect, no hang is seen
    where there was none, the shell and the command go on."""
    config = {**CONFIG, "heartbeatIntervalSec": 1, "pongTimeoutSec": 2}
    options = HubOptions(ping_interval_ms=500, ping_timeout_ms=1000, ping_every_ms=500)
    with ScriptedHub(options) as hub, running_agent(hub.url, config) as agent:
        sid = hub.wait_for_connection().sid
        with Console(hub, ran=tmp_path / "ran").follow() as console:
            session = console.shell()
            job = console.job(1.0)
            agent.until(lambda: console.runs() == [job])
            before = {row["id"]: row["pid"] for row in agent.workers()}
            sleepers = agent.processes()
            mark = hub.record.mark()
            for pid in sleepers:
                os.kill(pid, signal.SIGSTOP)
            hub.wait_for_disconnect(sid)
            time.sleep(1.0)  # the length of the sleep
            for pid in sleepers:
                os.kill(pid, signal.SIGCONT)
            hub.wait_for_connection(since=mark)
            told = hub.wait_for("admin_result", token=job).payload
            assert told["result"]["stdout"] == f"done {job}\n"
            console.type(session, "echo aw''ake\n")
            hub.wait_for_output(session, "awake\r\n")
            after = {row["id"]: row["pid"] for row in agent.workers()}
            assert after.items() <= before.items()
            assert len(hub.connections) == 2
            assert hub.events("shell_closed") == []
