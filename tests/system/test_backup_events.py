"""Backups over a real link, with a real rsync: both servers for 1.5, ours for `backup2`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.backup_schedules import Schedule, Schedules
from tests.doubles import sandbox
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hubs import Hub, HubOptions, NodeHub, ScriptedHub
from tests.facilities import only_if, require
from tests.system.test_agent_kills import BOOT_ID, end_by_force

END_S = 60.0
OURS = HubOptions(features=("ack", "credit", "base64", "workers", "backup2"))
FINALS = ("backup_complete", "backup_error")


@dataclass
class Setting:
    """A hub, an agent, and a tree to back up."""

    hub: Hub
    agent: AgentProcess
    source: Path
    dest: Path

    def request(self, plan: str, **changes: Any) -> dict[str, Any]:
        return {
            "planId": plan,
            "host": "",
            "user": None,
            "port": 22,
            "sourceDirs": [str(self.source)],
            "destRoot": str(self.dest),
            "ignoreGlobs": ["*.tmp"],
            **changes,
        }

    def plan(self, plan: str, **changes: Any) -> dict[str, Any]:
        self.hub.emit("backup_plan", self.request(plan, **changes))
        payload: dict[str, Any] = self.hub.wait_for(
            "backup_plan", timeout=END_S, planId=plan
        ).payload
        return payload

    @property
    def hub_is_ours(self) -> bool:
        return isinstance(self.hub, ScriptedHub)

    def finals(self, plan: str) -> list[Any]:
        return [e for name in FINALS for e in self.hub.events(name, planId=plan)]


def a_tree(folder: Path, big: int = 2_000_000) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"a")
    (folder / "sub" / "big").write_bytes(os.urandom(big))
    (folder / "skip.tmp").write_bytes(b"x")
    os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture(params=["node", "ours"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setting]:
    require("rsync")
    hub = NodeHub() if request.param == "node" else ScriptedHub(OURS)
    with hub, running_agent(hub.url) as agent:
        hub.wait_for("stats")
        yield Setting(hub, agent, a_tree(tmp_path / "src"), tmp_path / "dest")


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Setting]:
    require("rsync")
    config = {"backup": {"layout": "snapshot"}}
    with ScriptedHub(OURS) as hub, running_agent(hub.url, config=config) as agent:
        hub.wait_for("stats")
        yield Setting(hub, agent, a_tree(tmp_path / "src"), tmp_path / "dest")


def test_backup_is_planned_and_run_with_one_final(setting: Setting) -> None:
    planned = setting.plan("p1")
    assert (planned["totalFiles"], planned["totalBytes"]) == (2, 2_000_001)
    assert sorted(planned["files"]) == ["src/a", "src/sub/big"]
    assert planned["modifies"] == []
    # The same thing said in other words.
    again = setting.request("p1", host=None, user="", port=None, extra="ignored")
    setting.hub.emit("backup_start", again)
    done = setting.hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload
    assert (done["ok"], done["transferredBytes"], done["skipped"]) == (True, 2_000_001, 1)
    copy = setting.dest / "src"
    assert (copy / "sub" / "big").read_bytes() == (setting.source / "sub" / "big").read_bytes()
    assert not (copy / "skip.tmp").exists()
    assert len(setting.finals("p1")) == 1


def test_backup_start_that_is_not_the_plan_is_refused(setting: Setting) -> None:
    cases: list[dict[str, Any]] = [
        {"destRoot": "/elsewhere/x"},
        {"ignoreGlobs": []},
        {"host": "h"},
        {"sourceDirs": ["/other"]},
    ]
    for number, changes in enumerate(cases):
        plan = f"p{number}"
        setting.plan(plan)
        setting.hub.emit("backup_start", setting.request(plan, **changes))
        error = setting.hub.wait_for("backup_error", timeout=END_S, planId=plan).payload["error"]
        assert error == f"plan_mismatch: {next(iter(changes))}"
    assert not setting.dest.exists()


def test_backup_refusals_name_their_reason(setting: Setting, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    cases: list[tuple[dict[str, Any], str]] = [
        *(
            ({"host": host}, "bad_host")
            for host in (f"-oProxyCommand=touch {canary}", "a b", "a;b", "$(id)", "[::1]x", "x\n")
        ),
        ({"host": "h" * 300}, "bad_host"),
        *(
            ({"sourceDirs": [source]}, "bad_source")
            for source in (
                "-e sh",
                "--rsync-path=x",
                "host:/x",
                "rsync://h/x",
                "rel",
                "/a/../b",
                "/a\0b",
            )
        ),
        ({"sourceDirs": ["/" + "x" * 5000]}, "bad_source"),
        ({"sourceDirs": [str(tmp_path / "nowhere")]}, "bad_source"),
        *(
            ({"destRoot": dest}, "bad_dest")
            for dest in ("/", "/etc", "~", "a:b:c", str(setting.source / "in"), "/x/./")
        ),
        ({"ignoreGlobs": ["a\nb"]}, "bad_glob"),
    ]
    for number, (changes, reason) in enumerate(cases):
        plan = f"bad-{number}"
        setting.hub.emit("backup_plan", setting.request(plan, **changes))
        answer = setting.hub.wait_for("backup_error", timeout=END_S, planId=plan).payload
        assert answer["error"] == reason, changes
    setting.hub.emit("backup_start", setting.request("never-made"))
    answer = setting.hub.wait_for("backup_error", timeout=END_S, planId="never-made").payload
    assert answer["error"] == "unknown_plan"
    assert not canary.exists()


def test_backup_goes_on_when_the_agent_is_killed(setting: Setting) -> None:
    """The worker keeps the run; the next agent adopts it and reports its one final."""
    slow_down(setting)
    setting.plan("p1")
    setting.hub.emit("backup_start", setting.request("p1"))
    setting.hub.wait_for("backup_progress", timeout=END_S, planId="p1")
    setting.agent.kill()
    resume(setting)
    setting.agent.start()
    done = setting.hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload
    assert done["ok"] is True
    assert len(setting.finals("p1")) == 1


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_backup_goes_on_when_its_worker_is_killed_or_restarted(setting: Setting, how: str) -> None:
    slow_down(setting)
    setting.plan("p1")
    setting.hub.emit("backup_start", setting.request("p1"))
    setting.hub.wait_for("backup_progress", timeout=END_S, planId="p1")
    (worker,) = setting.agent.workers("backup")
    if how == "killed":
        os.kill(worker["pid"], signal.SIGKILL)
    else:
        assert "restarted" in setting.agent.command("worker", "restart", worker["id"]).stdout
        (after,) = setting.agent.workers("backup")
        assert (after["id"], after["pid"] != worker["pid"]) == (worker["id"], True)
    resume(setting)
    done = setting.hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload
    assert done["ok"] is True
    assert len(setting.finals("p1")) == 1


def test_backup_that_crashes_its_worker_three_times_is_left_alone(setting: Setting) -> None:
    """Others run; a new agent knows of it, too."""
    slow_down(setting)
    setting.plan("p1")
    setting.plan("p2", destRoot=f"{setting.dest}2")
    setting.hub.emit("backup_start", setting.request("p1"))
    killed: set[int] = set()

    def kill() -> bool:
        for worker in setting.agent.workers("backup"):
            if worker["pid"] and worker["pid"] not in killed and worker["state"] == "RUNNING":
                killed.add(worker["pid"])
                os.kill(worker["pid"], signal.SIGKILL)
        return len(killed) == 3

    setting.agent.until(kill)
    error = setting.hub.wait_for("backup_error", timeout=END_S, planId="p1").payload
    assert error["error"] == "worker_died"
    resume(setting)
    before = len(setting.hub.events("stats"))
    setting.agent.kill()
    setting.agent.start()
    setting.agent.until(lambda: len(setting.hub.events("stats")) > before)
    setting.hub.emit("backup_start", setting.request("p1"))
    held = setting.hub.wait_for("backup_error", timeout=END_S, planId="p1", error="busy").payload
    assert held.get("detail") == ("quarantined" if setting.hub_is_ours else None)
    setting.hub.emit("backup_start", setting.request("p2", destRoot=f"{setting.dest}2"))
    assert setting.hub.wait_for("backup_complete", timeout=END_S, planId="p2").payload["ok"]


def slow_down(setting: Setting, at_once: str = "|*--dry-run*") -> None:
    """Put a FIFO in the place of rsync's program: it waits until the test lets it go.

    Args:
        at_once: what does not wait, beside `--version`: the plans.
    """
    gate = setting.agent.root / "gate"
    os.mkfifo(gate)
    folder = setting.agent.root / "bin"
    folder.mkdir()
    script = folder / "rsync"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*{at_once}) ;; *) read x < '
        f'{gate};; esac\nexec {require("rsync")} "$@"\n'
    )
    script.chmod(0o755)
    setting.agent.terminate()
    setting.agent.env["PATH"] = f"{folder}:{setting.agent.env['PATH']}"
    before = len(setting.hub.events("stats"))
    setting.agent.start()
    setting.agent.until(lambda: len(setting.hub.events("stats")) > before)


def resume(setting: Setting) -> None:
    """Open the gate for good."""
    gate = setting.agent.root / "gate"
    gate.rename(gate.with_suffix(".old"))
    gate.write_text("go\n")
    fd = os.open(gate.with_suffix(".old"), os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"go\ngo\n")


def test_backup_second_start_is_ignored_by_a_foreign_server_and_answered_to_ours(
    setting: Setting,
) -> None:
    slow_down(setting)
    setting.plan("p1")
    setting.hub.emit("backup_start", setting.request("p1"))
    setting.hub.wait_for("backup_progress", timeout=END_S, planId="p1")
    setting.hub.emit("backup_start", setting.request("p1", requestId="r2"))
    if isinstance(setting.hub, ScriptedHub):
        answer = setting.hub.wait_for("backup_result", timeout=END_S, requestId="r2").payload
        assert (answer["ok"], answer["error"]) == (False, "already_running")
    resume(setting)
    setting.hub.wait_for("backup_complete", timeout=END_S, planId="p1")
    assert len(setting.finals("p1")) == 1


def test_backup2_cancel_ends_the_run_with_exactly_one_final(ours: Setting) -> None:
    slow_down(ours)
    ours.plan("p1")
    ours.hub.emit("backup_start", ours.request("p1"))
    ours.hub.wait_for("backup_progress", timeout=END_S, planId="p1")
    ours.hub.emit("backup_cancel", {"planId": "p1", "requestId": "c1"})
    assert ours.hub.wait_for("backup_result", timeout=END_S, requestId="c1").payload["ok"] is True
    assert (
        ours.hub.wait_for("backup_error", timeout=END_S, planId="p1").payload["error"]
        == "cancelled"
    )
    ours.hub.emit("backup_cancel", {"planId": "p1", "requestId": "c2"})
    late = ours.hub.wait_for("backup_result", timeout=END_S, requestId="c2").payload
    assert (late["ok"], late["error"]) == (False, "not_running")
    assert len(ours.finals("p1")) == 1


def test_backup2_cancel_ends_a_plan_in_the_making(ours: Setting) -> None:
    slow_down(ours, "")
    ours.hub.emit("backup_plan", ours.request("p1"))
    ours.agent.until(lambda: ours.agent.workers("backup"))
    ours.hub.emit("backup_cancel", {"planId": "p1", "requestId": "c1"})
    assert ours.hub.wait_for("backup_result", timeout=END_S, requestId="c1").payload["ok"] is True
    (final,) = ours.finals("p1")
    assert final.payload["error"] == "cancelled"
    assert ours.hub.events("backup_plan", planId="p1") == []
    ours.hub.emit("backup_start", ours.request("p1"))
    assert ours.hub.wait_for("backup_error", timeout=END_S, planId="p1", error="unknown_plan")


def test_backup2_verifies_lists_restores_and_keeps_schedules(ours: Setting, tmp_path: Path) -> None:
    planned = ours.plan("p1", requestId="r0")
    assert planned["requestId"] == "r0"
    assert planned["job"]["layout"] == "snapshot"
    ours.hub.emit("backup_start", {"planId": "p1", "requestId": "r1"})
    done = ours.hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload
    assert (done["files"], done["plannedFiles"], done["requestId"]) == (2, 2, "r1")

    def ask(event: str, request: str, **fields: Any) -> dict[str, Any]:
        ours.hub.emit(event, {"planId": "p1", "requestId": request, **fields})
        payload: dict[str, Any] = ours.hub.wait_for(
            "backup_result", timeout=END_S, requestId=request
        ).payload
        return payload

    assert ask("backup_verify", "v1", full=True)["ok"] is True
    (snapshot,) = ask("backup_ls", "l1")["result"]["snapshots"]
    entries = ask("backup_ls", "l2", snapshot=snapshot, path="src/sub")["result"]["entries"]
    assert [entry["path"] for entry in entries] == ["src/sub/big"]
    stubborn = tmp_path / "back" / "src" / "a"
    (stubborn / "a full directory").mkdir(parents=True)
    look = ask("backup_restore", "b0", to=str(tmp_path / "back"), dryRun=True)
    assert (look["ok"], look["result"]["new"], look["result"]["dryRun"]) == (True, 1, True)
    assert not (tmp_path / "back" / "src" / "sub").exists()
    back = ask("backup_restore", "b1", to=str(tmp_path / "back"))
    assert (back["ok"], back["result"]["partial"]) == (True, True)
    assert back["result"]["failedPaths"] == ["src/a"]
    shutil.rmtree(stubborn)
    again = ask("backup_restore", "b2", failed=True)
    assert (again["ok"], again["result"]["files"], stubborn.read_bytes()) == (True, 1, b"a")
    whole = (ours.source / "sub" / "big").read_bytes()
    assert (tmp_path / "back" / "src" / "sub" / "big").read_bytes() == whole
    (ours.dest / "src" / snapshot / "a").write_bytes(b"b")
    broken = ask("backup_verify", "v2", full=True)
    assert (broken["ok"], broken["error"]) == (False, "different")
    assert broken["result"]["differences"][0]["path"] == "src/a"
    schedule = {"id": "s", "planId": "p1", "cron": "0 3 * * *", "tz": "UTC", "enabled": True}
    assert ask("backup_schedule_set", "s1", schedules=[schedule])["ok"] is True
    assert ask("backup_schedule_list", "s2")["schedules"] == [schedule]
    wrong = ask("backup_schedule_set", "s3", schedules=[{**schedule, "cron": "never"}])
    assert (wrong["ok"], wrong["error"]) == (False, "bad_schedule")
    # What was added on the machine meanwhile stays, and the hub is told of it.
    line = ("backup", "schedule", "add", "p1", "--cron", "0 4 * * *", "--id", "own")
    assert ours.agent.command(*line).returncode == 0
    own = {"id": "own", "planId": "p1", "cron": "0 4 * * *", "tz": "UTC", "enabled": True}
    changed = {**schedule, "cron": "0 5 * * *"}
    told = ask("backup_schedule_set", "s4", schedules=[changed])
    assert (told["ok"], told["schedules"]) == (True, [own, changed])
    assert "own" in told["detail"]
    assert ask("backup_schedule_set", "s5", schedules=[])["schedules"] == [own]


def test_paused_machine_takes_no_backup_and_says_so(setting: Setting) -> None:
    setting.plan("p1")
    assert setting.agent.command("pause", "a test").returncode == 0
    setting.hub.emit("backup_start", setting.request("p1"))
    setting.hub.emit("backup_plan", setting.request("p2"))
    for plan in ("p1", "p2"):
        told = setting.hub.wait_for("backup_error", timeout=END_S, planId=plan).payload
        detail = "locked_by_host" if setting.hub_is_ours else None
        assert (told["error"], told.get("detail")) == ("busy", detail)
    assert setting.agent.command("resume").returncode == 0
    setting.hub.emit("backup_start", setting.request("p1"))
    assert setting.hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload["ok"]


@pytest.mark.parametrize("kind", ["node", "ours"])
def test_backup_that_is_overdue_is_told_by_status_and_to_a_hub_of_ours(kind: str) -> None:
    schedule = {"id": "s", "planId": "p1", "cron": "0 3 * * *", "tz": "UTC", "enabled": True}
    config = {"backup": {"maxAgeHours": 0.0001, "schedules": [schedule]}, "statsIntervalSec": 1}
    with NodeHub() if kind == "node" else ScriptedHub(OURS) as hub:
        with running_agent(hub.url, config=config) as agent:
            agent.until(lambda: "backup overdue: p1" in agent.ask("status")["degraded"])
            count = len(hub.events("stats"))
            agent.until(lambda: len(hub.events("stats")) > count + 1)
            told = hub.events("stats")[-1].payload.get("overdueBackups")
            assert told == (None if kind == "node" else ["p1"])


def test_scheduled_backup_runs_while_the_hub_is_away_and_is_told_when_it_is_back(
    tmp_path: Path,
) -> None:
    """It was due a minute ago, and not so long that it would be caught up later."""
    require("rsync")
    source, dest = a_tree(tmp_path / "src"), tmp_path / "dest"
    with ScriptedHub(OURS) as hub, running_agent(hub.url) as agent:
        hub.wait_for("stats")
        place = Setting(hub, agent, source, dest)
        place.plan("p1")
        hub.stop()
        schedules = Schedules(agent.state_dir / "backups")
        schedules.write([Schedule(id="s", plan_id="p1", cron="* * * * *")], time.time() - 70)
        agent.until((dest / "src" / "sub" / "big").exists, timeout_s=180)
        assert hub.events("backup_complete") == []
        hub.start()
        done = hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload
        assert (done["ok"], done["files"]) == (True, 2)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Setting]:
    """A backup that takes about ten seconds."""
    require("rsync")
    config = {"backup": {"limitKibPerSec": 600}, "statsIntervalSec": 1}
    options = HubOptions(features=OURS.features, finals_file=tmp_path / "finals")
    with ScriptedHub(options) as hub, running_agent(hub.url, config=config) as agent:
        hub.wait_for("stats")
        source = a_tree(tmp_path / "src", big=3_000_000)
        (source / "sub" / "big2").write_bytes(os.urandom(3_000_000))
        yield Setting(hub, agent, source, tmp_path / "dest")


def test_backup_goes_on_while_its_link_flaps_and_ends_once(slow: Setting) -> None:
    """Cut in each way; after each there is progress again, within two seconds of link time."""
    slow.plan("p1")
    slow.hub.emit("backup_start", slow.request("p1"))
    slow.hub.wait_for("backup_progress", timeout=END_S, planId="p1")
    (worker,) = slow.agent.workers("backup")
    for how in ("close", "abort", "namespace"):
        mark = slow.hub.record.mark()
        slow.hub.drop(how)
        slow.hub.wait_for_connection(since=mark, timeout=END_S)
        slow.hub.wait_for("backup_progress", since=mark, timeout=END_S, planId="p1")
    assert [row["pid"] for row in slow.agent.workers("backup")] == [worker["pid"]]
    done = slow.hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload
    assert (done["ok"], done["files"]) == (True, 3)
    assert isinstance(slow.hub, ScriptedHub)
    slow.agent.until(lambda: not slow.agent.ask("status")["outbox"]["count"])
    assert len({final["id"] for final in slow.hub.finals() if final["event"] in FINALS}) == 1
    percents = [e.payload["percent"] for e in slow.hub.events("backup_progress", planId="p1")]
    assert percents == sorted(percents)


def test_backup_that_a_reboot_has_ended_is_told_once_and_goes_on_when_it_is_started_again(
    slow: Setting, tmp_path: Path
) -> None:
    """State directory kept; processes and run directory gone, another boot id."""
    only_if(BOOT_ID.exists(), "the kernel has no boot id")
    fresh = tmp_path / "boot_id"
    fresh.write_text("11111111-2222-4333-8444-555555555555\n")
    slow.plan("p1")
    slow.hub.emit("backup_start", slow.request("p1"))
    copied = slow.dest / "src" / "sub" / "big"
    slow.agent.until(copied.exists)
    end_by_force(slow.agent)
    shutil.rmtree(slow.agent.root / "run")
    (slow.agent.root / "run").mkdir(mode=0o700)
    slow.agent.prefix = sandbox.mounts(f"mount --bind {fresh} {BOOT_ID}")
    slow.agent.start()
    error = slow.hub.wait_for("backup_error", timeout=END_S, planId="p1").payload
    assert error["error"] == "agent_restarted"
    state = json.loads(slow.agent.command("backup", "ls", "--json").stdout)
    assert [plan["state"] for plan in state] == ["interrupted"]
    slow.hub.emit("backup_start", slow.request("p1"))
    done = slow.hub.wait_for("backup_complete", timeout=END_S, planId="p1").payload
    assert (done["ok"], done["files"]) == (True, 3)
    assert done["transferredBytes"] <= 3_000_001  # the file in flight, and what came after it
    assert (slow.source / "sub" / "big").read_bytes() == copied.read_bytes()
