"""`jackline backups` and `jackline jobs`: what an operator types against a real hub and agent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.authorize import Role
from tests.doubles.agent_process import AgentProcess
from tests.doubles.hub_process import JACKLINE, HubProcess
from tests.doubles.operator_desk import Desk, Script, asset_of
from tests.facilities import require

pytestmark = pytest.mark.timeout(300)
DEADLINE_S = 120
KIB_S = 100  # eight megabytes take longer than any test asks them to


class Person:
    """Somebody at a command line."""

    def __init__(self, hub: HubProcess, token: str, home: Path) -> None:
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "JACKLINE_HUB_URL": hub.url,
            "JACKLINE_TOKEN": token,
        }

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*JACKLINE, *words],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, want: int = 0) -> str:
        """Run a command to its end; return what it printed, and what it said where it failed."""
        process = self.begin(*words)
        out, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == want, (words, process.returncode, out, said)
        return out if want == 0 else out + said

    def json(self, *words: str, want: int = 0) -> Any:
        return json.loads(self(*words, "-o", "json", want=want))


@pytest.fixture
def otto(desk: Desk, tmp_path: Path) -> Person:
    """An operator."""
    return Person(desk.hub, desk.token, tmp_path)


@pytest.fixture
def ada(hub: HubProcess, tmp_path: Path) -> Person:
    """Somebody who may approve."""
    return Person(hub, hub.add_user(f"ada-{tmp_path.name}", Role.TENANT_ADMIN), tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    require("rsync")
    (tmp_path / "src").mkdir()
    (tmp_path / "back").mkdir()
    (tmp_path / "src" / "a.txt").write_text("a\n")
    (tmp_path / "src" / "b.tmp").write_text("b\n")
    return tmp_path


@pytest.fixture
def slow_agent(hub: HubProcess, tmp_path: Path) -> Iterator[AgentProcess]:
    """A machine of its own, whose copies take their time."""
    rsync = require("rsync")
    shim = tmp_path / "bin" / "rsync"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\ncase "$*" in *--dry-run*|--version*|-V*) exec {rsync} "$@";; esac\n'
        f'exec {rsync} --bwlimit={KIB_S} "$@"\n'
    )
    shim.chmod(0o755)
    config = {"clientId": "slow", "authToken": hub.add_agent("slow")}
    agent = AgentProcess(hub.url, config, {"PATH": f"{shim.parent}:{os.environ['PATH']}"})
    yield agent
    agent.close()


def described(tree: Path, *words: str) -> tuple[str, ...]:
    return ("--source", str(tree / "src"), "--dest", str(tree / "dst"), *words)


def test_a_backup_is_planned_approved_run_verified_looked_into_restored_and_forgotten(
    otto: Person, ada: Person, asset_id: str, tree: Path
) -> None:
    words = described(tree, "--name", "nightly", "--ignore", "*.tmp")
    made = otto.json("backups", "plan", "agent-1", *words)
    assert (made["state"], made["found"]["total_files"]) == ("planned", 1)
    assert re.search("nightly +pending ", otto("backups", "ls", "agent-1"))
    assert "not_approved" in otto("backups", "run", "agent-1", "nightly", want=5)
    assert "forbidden" in otto("backups", "approve", "agent-1", "nightly", want=77)
    assert "approved by" in ada("backups", "approve", "agent-1", made["id"][:30])

    assert "transferred bytes  2\n" in otto("backups", "run", "agent-1", "nightly")
    assert (tree / "dst/src/a.txt").read_text() == "a\n"
    assert not (tree / "dst/src/b.tmp").exists()
    verified = otto.json("backups", "verify", "agent-1", "nightly", "--full")
    assert verified["result"]["result"]["checkedFiles"] == 1
    assert otto.json("backups", "status", asset_id, "nightly")["standing"] == "verified"
    [run] = otto.json("backups", "ls", "agent-1", "nightly")["runs"]
    assert run["files"] == 1
    assert "whole" in otto("backups", "ls", "agent-1", "nightly")
    assert "src/a.txt" in otto("backups", "ls", "agent-1", "nightly", "--path", "src")

    (tree / "src/a.txt").unlink()
    otto("backups", "restore", "agent-1", "nightly", "--path", "src/a.txt")
    assert (tree / "src/a.txt").read_text() == "a\n"
    otto("backups", "restore", "agent-1", "nightly", "--to", str(tree / "back"))
    assert (tree / "back/src/a.txt").read_text() == "a\n"

    (tree / "dst/src/a.txt").write_text("changed\n")
    told = otto("backups", "verify", "agent-1", "nightly", "--full", want=1)
    assert "  src/a.txt: size\n" in told

    again = otto.json("backups", "plan", "agent-1", "--again", "nightly")
    assert (again["version"], again["approved_by"]) == (2, None)
    assert "say --yes" in ada("backups", "rm", "agent-1", "nightly", want=2)
    ada("backups", "rm", "agent-1", "nightly", "--yes")
    assert "no backup is called" in otto("backups", "status", "agent-1", "nightly", want=4)
    assert (tree / "dst/src/a.txt").exists()


def test_schedules_are_set_shown_and_taken_away(
    otto: Person, ada: Person, asset_id: str, tree: Path
) -> None:
    otto("backups", "plan", asset_id, *described(tree, "--name", "planned"))
    ada("backups", "approve", asset_id, "planned")
    line = ("--plan", "planned", "--cron", "30 2 * * *", "--tz", "Europe/Berlin")
    assert "Europe/Berlin" in otto("backups", "schedules", asset_id, "--set", "night", *line)
    wrong = ("--plan", "planned", "--cron", "never")
    assert "bad_schedule" in otto("backups", "schedules", asset_id, "--set", "x", *wrong, want=2)
    assert "needs --plan" in otto("backups", "schedules", asset_id, "--set", "x", want=2)
    [shown] = otto.json("backups", "schedules", asset_id)["schedules"]
    assert (shown["id"], shown["enabled"]) == ("night", True)
    otto("backups", "schedules", asset_id, "--remove", "night")
    assert otto.json("backups", "schedules", asset_id)["schedules"] == []


def test_what_cannot_be_done_has_its_exit_code(
    hub: HubProcess, otto: Person, asset_id: str, tree: Path
) -> None:
    assert "no machine called" in otto("backups", "ls", "nobody", want=4)
    assert "needs --source" in otto("backups", "plan", asset_id, want=2)
    root = ("--source", str(tree / "src"), "--dest", "/")
    assert "bad_dest" in otto("backups", "plan", asset_id, *root, want=1)
    if asset_of(hub, "away") is None:
        hub.add_agent("away")
    away = asset_of(hub, "away")
    for choice in ("fail", "skip"):
        words = described(tree, "--when-offline", choice)
        otto("backups", "plan", away, *words, want=69)


def test_what_waits_is_upcoming_and_is_ended_by_whoever_asked(
    hub: HubProcess, otto: Person, tree: Path
) -> None:
    hub.add_agent("later")
    made = otto.json("backups", "plan", "later", *described(tree, "--no-wait"))
    asked = otto("exec", "later", "--detach", "--", "uptime").strip()
    upcoming = otto.json("jobs", "ls", "later", "--upcoming")
    assert {one["id"] for one in upcoming} == {made["job"]["id"], asked}
    assert {one["state"] for one in upcoming} == {"queued"}
    assert "later  admin  " in otto("jobs", "ls", "later", "--kind", "admin")
    assert "uptime" in otto("jobs", "show", asked)
    otto("jobs", "cancel", asked, made["job"]["id"])
    assert otto.json("jobs", "show", asked)["state"] == "cancelled"
    assert otto.json("jobs", "ls", "later", "--upcoming") == []
    assert "already_ended" in otto("jobs", "cancel", asked, want=5)
    assert "no such job" in otto("jobs", "cancel", "nobody", want=4)


def test_a_command_that_runs_is_ended(
    hub: HubProcess, otto: Person, asset_id: str, script: Script
) -> None:
    asked = otto("exec", asset_id, "--detach", "--", script("exec sleep 600")).strip()
    hub.until(lambda: script.runs == 1)
    otto("jobs", "cancel", asked)
    assert otto.json("jobs", "show", asked)["state"] == "cancelled"


def test_a_run_is_left_alone_by_an_interrupt_outlives_its_hub_and_is_cancelled(
    hub: HubProcess, otto: Person, ada: Person, tree: Path, slow_agent: AgentProcess
) -> None:
    (tree / "src" / "big.bin").write_bytes(os.urandom(8 * 1024 * 1024))
    slow_agent.start()
    otto("backups", "plan", "slow", *described(tree, "--name", "big"))
    ada("backups", "approve", "slow", "big")
    process = otto.begin("backups", "run", "slow", "big")
    hub.until(lambda: otto.json("backups", "status", "slow", "big")["progress"])
    hub.kill()
    hub.start()
    hub.until(lambda: otto.json("backups", "status", "slow", "big")["doing"] == "running")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (130, ""), said
    assert "backups cancel" in said
    job = otto.json("backups", "cancel", "slow", "big")
    assert (job["state"], job["kind"]) == ("cancelled", "backup_run")
