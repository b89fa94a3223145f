"""`jackline exec`: the remote command as if it ran here."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.doubles.hub_process import JACKLINE, HubProcess
from tests.doubles.operator_desk import Desk, Script, asset_of, node_agent

DEADLINE_S = 120


def environment(desk: Desk, folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "JACKLINE_HUB_URL": desk.hub.url,
        "JACKLINE_TOKEN": desk.token,
    }


@pytest.fixture
def execute(desk: Desk, tmp_path: Path):
    """Run `jackline exec` to its end."""

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*JACKLINE, "exec", *words],
            env=environment(desk, tmp_path),
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture
def begin(desk: Desk, tmp_path: Path):
    """Start `jackline exec`; the test ends it."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*JACKLINE, "exec", *words],
            env=environment(desk, tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_output_and_exit_code_pass_through(execute, asset_id: str) -> None:
    done = execute(asset_id, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_machine_is_found_by_its_name(execute, asset_id: str) -> None:
    assert execute("agent-1", "--", "true").returncode == 0


def test_large_output_is_whole(execute, asset_id: str) -> None:
    done = execute(asset_id, "--", "seq 1 1000000")
    assert done.returncode == 0, done.stderr
    expected = b"".join(b"%d\n" % n for n in range(1, 1_000_001))
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(expected).digest()


def test_json_is_the_job(execute, asset_id: str) -> None:
    done = execute(asset_id, "-o", "json", "--", "echo", "a b")
    job = json.loads(done.stdout)
    assert (job["state"], job["result"]["stdout"], job["request"]["command"]) == (
        "succeeded",
        "a b\n",
        "echo 'a b'",
    )


def test_refusal_by_the_machine_is_its_own_code(execute, asset_id: str) -> None:
    done = execute(asset_id, "--", "uptime; id")
    assert done.returncode == 126
    assert done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-machine", "--", "true"],
        ["{asset}", "true"],
        ["{asset}", "--"],
        ["{asset}", "--when-offline", "never", "--", "true"],
        ["{offline}", "--when-offline", "fail", "--", "true"],
        ["{offline}", "--when-offline", "skip", "--", "true"],
        ["{offline}", "--expires-in", "1s", "--", "true"],
    ],
)
def test_failures_of_our_own_are_125(
    hub: HubProcess, execute, asset_id: str, words: list[str]
) -> None:
    offline = asset_of(hub, "never-there")
    if offline is None:
        hub.add_agent("never-there")
        offline = asset_of(hub, "never-there")
    done = execute(*(word.format(asset=asset_id, offline=offline) for word in words))
    assert done.returncode == 125
    assert done.stderr
    assert done.stdout == b""


def test_interrupt_ends_the_remote_command(hub: HubProcess, begin, asset_id: str, script: Script):
    process = begin(asset_id, "--timeout", "10m", "--", script("exec sleep 600"))
    hub.until(lambda: script.runs == 1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, stderr
    status, found = hub.get(f"/api/v1/jobs?asset_id={asset_id}&limit=1", hub.token())
    assert (status, found["items"][0]["state"]) == (200, "cancelled")


def test_command_is_followed_over_a_hub_that_is_killed(
    hub: HubProcess, begin, asset_id: str, script: Script
) -> None:
    process = begin(
        asset_id, "--timeout", "5m", "--", script("echo first; WAIT; echo last; exit 3")
    )
    hub.until(lambda: script.runs == 1)
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    hub.kill()
    hub.start()
    script.gate.touch()
    stdout, _ = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, script.runs) == (3, 1)
    assert stdout == b"last\n"


def test_foreign_agent_shows_its_result(hub: HubProcess, execute, tmp_path: Path) -> None:
    with node_agent(hub, tmp_path, "old"):
        done = execute(asset_of(hub, "old"), "--", "seq", "1", "3")
    assert (done.returncode, done.stdout) == (0, b"1\n2\n3\n")
