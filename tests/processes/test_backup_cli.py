"""`jackline backup` by hand: real worker, real rsync, no agent and no configuration."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.ssh_server import SshServer
from tests.facilities import require
from workers.program import own_command


class Place:
    """An empty directory of a newcomer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.env = {
            **kept,
            **{f"JACKLINE_{n}_DIR": str(root / n.lower()) for n in ("CONFIG", "STATE", "LOG")},
            "JACKLINE_RUN_DIR": str(root / "run"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }

    def argv(self, *words: str) -> list[str]:
        return [*own_command(), "backup", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            check=False,
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def json(self, *words: str) -> dict[str, Any]:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    require("rsync")
    made = Place(tmp_path)
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a").write_text("a")
    (tmp_path / "data" / "sub" / "b").write_bytes(os.urandom(100_000))
    (tmp_path / "data" / "x.tmp").touch()
    return made


def test_newcomer_plans_runs_verifies_and_restores(place: Place) -> None:
    planned = place.json("plan", "--source", "data", "--dest", "dest", "--ignore", "*.tmp")
    plan_id = planned["planId"]
    assert (planned["totalFiles"], planned["totalBytes"]) == (2, 100_001)
    ran = place.json("run", plan_id)
    assert (ran["ok"], ran["files"], ran["partial"]) == (True, 2, False)
    assert place.json("verify", plan_id, "--full")["ok"] is True
    assert place.run("verify", plan_id).returncode == 0
    assert place.run("restore", plan_id, "--to", "back").returncode == 0
    assert (place.root / "back" / "data" / "a").read_text() == "a"
    (place.root / "data" / "a").write_text("damaged")
    done = place.run("restore", plan_id, "--path", "data/a")
    assert done.returncode == 0
    assert "1 file will be overwritten: data/a" in done.stderr
    assert (place.root / "data" / "a").read_text() == "a"
    (place.root / "dest" / "data" / "a").write_text("b")
    differs = place.run("verify", plan_id, "--full", "--json")
    assert (differs.returncode, json.loads(differs.stdout)["ok"]) == (3, False)


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("run", "no-such"), 4, "unknown_plan"),
        (("plan", "--source", "data", "--dest", "/"), 2, "bad_dest"),
        (("plan", "--source", "nowhere", "--dest", "dest"), 2, "bad_source"),
        (("plan", "--source", "data", "--dest", "/x/y", "--host=-oX=y"), 2, "bad_host"),
    ],
)
def test_refusal_has_its_exit_code_and_its_json(
    place: Place, words: tuple[str, ...], code: int, error: str
) -> None:
    done = place.run(*words, "--json")
    assert done.returncode == code
    told = json.loads(done.stdout)
    assert (told["ok"], told["error"]) == (False, error)
    assert done.stderr.startswith(f"jackline: {error}")


def test_restore_tries_again_what_failed_alone(place: Place) -> None:
    plan_id = place.json("plan", "--source", "data", "--dest", "dest")["planId"]
    place.json("run", plan_id)
    assert place.run("restore", plan_id, "--failed").returncode == 4
    stubborn = place.root / "back" / "data" / "sub" / "b"
    (stubborn / "a full directory").mkdir(parents=True)
    done = place.run("restore", plan_id, "--to", "back", "--json")
    shutil.rmtree(stubborn)
    told = json.loads(done.stdout)
    assert done.returncode == 3
    assert (told["failedFiles"], told["failedPaths"]) == (1, ["data/sub/b"])
    assert told["failed"]
    (place.root / "back" / "data" / "a").write_text("mine since")
    again = place.json("restore", plan_id, "--failed")
    assert (again["files"], again["partial"]) == (1, False)
    assert stubborn.read_bytes() == (place.root / "data" / "sub" / "b").read_bytes()
    assert (place.root / "back" / "data" / "a").read_text() == "mine since"
    assert place.run("restore", plan_id, "--failed").returncode == 4


@pytest.mark.parametrize("no_colour", [False, True])
def test_progress_is_a_bar_on_a_terminals_standard_error(place: Place, no_colour: bool) -> None:
    import pexpect

    (place.root / "data" / "big").write_bytes(os.urandom(3_000_000))
    plan_id = place.json("plan", "--source", "data", "--dest", "dest")["planId"]
    env = {
        **place.env,
        "TERM": "xterm",
        "COLUMNS": "120",
        **({"NO_COLOR": "1"} if no_colour else {}),
    }
    out = place.root / "out"
    command = f"exec {' '.join(place.argv('run', plan_id, '--limit', '1000', '--json'))} > {out}"
    child = pexpect.spawn("/bin/sh", ["-c", command], env=env, cwd=str(place.root), timeout=120)
    child.expect(pexpect.EOF)
    shown = child.before.decode()
    child.close()
    assert child.exitstatus == 0
    assert json.loads(out.read_text())["ok"] is True
    assert " % · " in shown and "of 3.0 MiB" in shown and "data/big" in shown
    assert bool(re.search(r"\x1b\[[0-9;]*m", shown)) is not no_colour


def test_progress_is_for_terminals_alone(place: Place) -> None:
    (place.root / "data" / "big").write_bytes(os.urandom(2_000_000))
    plan_id = place.json("plan", "--source", "data", "--dest", "dest")["planId"]
    assert place.run("run", plan_id, "--limit", "1000").stderr == ""


def test_host_is_trusted_by_its_fingerprint_and_then_backed_up_to(place: Place) -> None:
    """Without a terminal and without `--yes` nothing is pinned; an unknown host is refused."""
    server = SshServer(place.root / "sshd")
    (place.root / "config").mkdir()
    (place.root / "config" / "policy.yaml").write_text(
        f"backup:\n  ssh:\n    identityFile: {server.identity}\n"
    )
    there = ("--host", "127.0.0.1", "--port", str(server.port), "--user", server.user)
    asked = ("plan", "--source", "data", "--dest", str(place.root / "dest"), *there)
    trust = ("trust-host", "127.0.0.1", "--port", str(server.port))
    try:
        refused = place.run(*asked, "--json")
        assert json.loads(refused.stdout)["error"] == "host_key"
        shown = place.run(*trust)
        assert (shown.returncode, "SHA256:" in shown.stdout) == (5, True)
        assert json.loads(place.run(*asked, "--json").stdout)["error"] == "host_key"
        assert place.run(*trust, "--yes").returncode == 0
        plan_id = place.json(*asked)["planId"]
        assert place.json("run", plan_id)["files"] == 3
        assert place.json("verify", plan_id, "--full")["ok"] is True
        server.host_key("other")  # another machine, or one that was made anew
        assert json.loads(place.run("run", plan_id, "--json").stdout)["error"] == "host_key"
    finally:
        server.stop()


def test_schedules_are_added_listed_and_removed(place: Place) -> None:
    plan_id = place.json("plan", "--source", "data", "--dest", "dest")["planId"]
    words = ("schedule", "add", plan_id, "--cron", "30 2 * * *", "--tz", "Europe/Vienna")
    assert place.run(*words, "--id", "nightly").stdout == "nightly\n"
    listed = json.loads(place.run("schedule", "ls", "--json").stdout)
    assert [(each["id"], each["planId"], each["tz"]) for each in listed] == [
        ("nightly", plan_id, "Europe/Vienna")
    ]
    assert listed[0]["next"].endswith("Z")
    wrong = place.run("schedule", "add", plan_id, "--cron", "never")
    assert (wrong.returncode, wrong.stderr.split(":")[1]) == (2, " bad_schedule")
    unknown = place.run("schedule", "rm", "weekly")
    assert (unknown.returncode, unknown.stderr.split(":")[1]) == (4, " unknown_schedule")
    assert place.run("schedule", "rm", "nightly").returncode == 0
    assert json.loads(place.run("schedule", "ls", "--json").stdout) == []


def test_run_is_cancelled_from_another_terminal(place: Place) -> None:
    (place.root / "data" / "big").write_bytes(os.urandom(20_000_000))
    plan_id = place.json("plan", "--source", "data", "--dest", "dest")["planId"]
    idle = place.run("cancel", plan_id)
    assert (idle.returncode, idle.stderr.split(":")[1]) == (4, " not_running")
    running = subprocess.Popen(
        place.argv("run", plan_id, "--limit", "100", "--json"),
        cwd=place.root,
        env=place.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    end = time.monotonic() + 60
    while place.json("ls")[0]["state"] != "running":  # type: ignore[index]
        assert time.monotonic() < end
    assert place.run("cancel", plan_id).returncode == 0
    told, _ = running.communicate(timeout=60)
    assert (running.returncode, json.loads(told)["error"]) == (1, "cancelled")
    assert place.json("run", plan_id)["ok"] is True


@pytest.mark.parametrize("op", ["plan", "verify", "restore"])
def test_anything_that_is_done_for_a_plan_can_be_cancelled(place: Place, op: str) -> None:
    """A plan in the making, too, which nobody else has heard of yet."""
    plan = ("plan", "--source", "data", "--dest", "dest", "--id", "p")
    words = {"plan": plan, "verify": ("verify", "p"), "restore": ("restore", "p", "--to", "back")}
    if op != "plan":
        place.json(*plan)
        place.json("run", "p")
    gate, folder = place.root / "gate", place.root / "bin"
    os.mkfifo(gate)
    folder.mkdir()
    (folder / "rsync").write_text(f"#!/bin/sh\nread x < {gate}\n")
    (folder / "rsync").chmod(0o755)
    env = {**place.env, "PATH": f"{folder}:{place.env['PATH']}"}
    doing = subprocess.Popen(
        [*place.argv(*words[op]), "--json"],
        cwd=place.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while place.run("cancel", "p").returncode != 0:
        assert time.monotonic() < end
    told, _ = doing.communicate(timeout=60)
    assert (doing.returncode, json.loads(told)["error"]) == (1, "cancelled")
    assert place.run("cancel", "p").returncode == 4


def test_cancelled_run_is_told_as_such_and_its_after_hook_has_run(place: Place) -> None:
    (place.root / "config").mkdir()
    said = place.root / "said"
    words = json.dumps(["/bin/sh", "-c", f"echo $JACKLINE_BACKUP > {said}"])
    (place.root / "config" / "policy.yaml").write_text(f"backup:\n  hooks:\n    after: {words}\n")
    (place.root / "data" / "big").write_bytes(os.urandom(20_000_000))
    plan_id = place.json("plan", "--source", "data", "--dest", "dest")["planId"]
    running = subprocess.Popen(
        place.argv("run", plan_id, "--limit", "100"),
        cwd=place.root, env=place.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 60
    while place.run("cancel", plan_id).returncode != 0:
        assert time.monotonic() < end
    assert running.wait(60) == 1
    assert said.read_text() == "cancelled\n"
    assert place.json("ls")[0]["state"] == "cancelled"  # type: ignore[index]


def test_owners_globs_are_never_copied_whatever_a_plan_says(place: Place) -> None:
    (place.root / "config").mkdir()
    (place.root / "config" / "policy.yaml").write_text(
        'backup:\n  excludeGlobs: ["*.key", "data/private"]\n'
    )
    (place.root / "data" / "private").mkdir()
    (place.root / "data" / "private" / "diary").touch()
    (place.root / "data" / "sub" / "host.key").touch()
    plan = ("plan", "--source", "data", "--dest", "dest", "--ignore", "+ *.key", "--ignore", "!*")
    assert place.json(*plan)["totalFiles"] == 3
    place.json("run", place.json(*plan)["planId"])
    copied = {
        str(path.relative_to(place.root / "dest")) for path in place.root.glob("dest/data/**/*")
    }
    assert copied == {"data/a", "data/sub", "data/sub/b", "data/x.tmp"}
