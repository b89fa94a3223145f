"""Backups through the hub: the real hub, the real agent, the real rsync.

Plan, approve, run, verify and restore byte for byte; cancel in flight; the queue for a machine that
is away; a hub killed while a backup runs. Fault cases B, C, H.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hub.agents.models import Asset
from hub.authorize import Role
from hub.jobs.models import Job
from tests.doubles.agent_process import AgentProcess
from tests.doubles.hub_process import HubProcess
from tests.doubles.operator_desk import Desk, asset_of, linked, node_agent
from tests.facilities import require

pytestmark = pytest.mark.timeout(300)
KIB_S = 1000


class Site:
    """A hub, an agent of it, and somebody of each role."""

    def __init__(self, hub: HubProcess, folder: Path) -> None:
        require("rsync")
        self.hub = hub
        self.folder = folder
        self.source, self.dest = folder / "src", folder / "dest"
        self.source.mkdir()
        self.back = folder / "back"
        self.back.mkdir()
        config = {
            "authToken": hub.add_agent("agent-1"),
            "statsIntervalSec": 1,
        }
        self.agent = AgentProcess(hub.url, config)
        self.operator = Desk(hub, hub.add_user("otto", Role.OPERATOR))
        self.admin = Desk(hub, hub.add_user("ada", Role.TENANT_ADMIN))
        self.asset_id = asset_of(hub)
        self.path = f"/api/v1/agents/{self.asset_id}/backups"

    def start(self) -> None:
        self.agent.start()
        linked(self.agent)
        self.hub.until(lambda: self.hub.get(self.agent_path, self.operator.token)[1]["link"])

    @property
    def agent_path(self) -> str:
        return f"/api/v1/agents/{self.asset_id}"

    def fill(self, name: str, size: int) -> bytes:
        data = random.Random(name).randbytes(size)
        path = self.source / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return data

    def describe(self, **more: Any) -> dict[str, Any]:
        body = {"source_dirs": [str(self.source)], "dest_root": str(self.dest), **more}
        made: dict[str, Any] = self.operator.ask("POST", self.path, body, 201)
        return made

    def planned(self, **more: Any) -> str:
        made = self.describe(**more)
        self.succeeded(made["job"])
        return str(made["id"])

    def approved(self, **more: Any) -> str:
        plan_id = self.planned(**more)
        self.admin.ask("POST", f"{self.path}/{plan_id}/approve", {"version": 1})
        return plan_id

    def ask(self, plan_id: str, word: str, **body: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.operator.ask("POST", f"{self.path}/{plan_id}/{word}", body, 201)
        return made

    def show(self, plan_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.operator.ask("GET", f"{self.path}/{plan_id}")
        return found

    def succeeded(self, job: dict[str, Any]) -> dict[str, Any]:
        ended: dict[str, Any] = self.operator.ended(job["id"])
        assert ended["state"] == "succeeded", ended
        return ended

    def at_work(self, plan_id: str) -> dict[str, Any]:
        """Wait until a run has told how far it is."""

        def look() -> dict[str, Any] | None:
            status, found = self.hub.get(f"{self.path}/{plan_id}", self.operator.token)
            return found if status == 200 and found["progress"] else None

        found: dict[str, Any] = self.hub.until(look)
        return found

    def slow_down(self, kib_s: int) -> None:
        """Let whatever rsync of the agent starts from now on be slow, but for plans."""
        rsync = require("rsync")
        shim = self.folder / "bin" / "rsync"
        shim.parent.mkdir()
        shim.write_text(
            "#!/bin/sh\n"
            f'case "$*" in *--dry-run*|--version*|-V*) exec {rsync} "$@";; esac\n'
            f'exec {rsync} --bwlimit={kib_s} "$@"\n'
        )
        shim.chmod(0o755)
        self.agent.env["PATH"] = f"{shim.parent}:{self.agent.env['PATH']}"

    def close(self) -> None:
        self.agent.close()


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    made = HubProcess()
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def site(hub: HubProcess, tmp_path: Path) -> Iterator[Site]:
    made = Site(hub, tmp_path)
    yield made
    made.close()


def test_backup_is_planned_approved_run_verified_and_restored_byte_for_byte(site: Site) -> None:
    site.start()
    data = {name: site.fill(name, 30_000) for name in ("a.bin", "sub/b ü.bin")}
    site.fill("sub/skip.tmp", 10)
    plan_id = site.planned(ignore_globs=["*.tmp"], name="all of it")
    shown = site.show(plan_id)
    assert (shown["state"], shown["standing"]) == ("planned", "pending")
    assert (shown["found"]["total_files"], shown["found"]["new"]) == (2, 2)
    assert shown["found"]["total_bytes"] == 60_000
    assert any("a.bin" in str(one) for one in shown["found"]["files"])

    refused = site.operator.ask("POST", f"{site.path}/{plan_id}/run", {}, 409)
    assert refused["code"] == "not_approved"
    site.operator.ask("POST", f"{site.path}/{plan_id}/approve", {}, 403)
    stale = site.admin.ask("POST", f"{site.path}/{plan_id}/approve", {"version": 0}, 409)
    assert stale["code"] == "changed"
    approved = site.admin.ask("POST", f"{site.path}/{plan_id}/approve", {"version": 1})
    assert approved["approved_by"] == "ada"

    run = site.succeeded(site.ask(plan_id, "run"))
    assert (run["result"]["ok"], run["result"]["files"]) == (True, 2)
    assert site.show(plan_id)["standing"] == "ok"
    machine = site.operator.ask("GET", site.agent_path)
    assert machine["last_backup_ok"] is True
    verified = site.succeeded(site.ask(plan_id, "verify", full=True))
    assert verified["result"]["result"]["checkedFiles"] == 2
    assert site.show(plan_id)["standing"] == "verified"
    told = site.operator.ask("GET", site.path)
    assert told["sentence"] == "Everything is backed up"

    (site.source / "a.bin").unlink()
    site.succeeded(site.ask(plan_id, "restore", paths=["src/a.bin"]))
    assert (site.source / "a.bin").read_bytes() == data["a.bin"]
    site.succeeded(site.ask(plan_id, "restore", to=str(site.back)))
    for name, content in data.items():
        assert (site.back / "src" / name).read_bytes() == content
    assert not (site.back / "src/sub/skip.tmp").exists()


def test_snapshots_are_listed_and_a_prune_is_shown_before_it_is_done(site: Site) -> None:
    site.start()
    site.fill("a.bin", 10)
    plan_id = site.approved(layout="snapshot")
    for size in (11, 12):
        site.fill("a.bin", size)
        site.succeeded(site.ask(plan_id, "run"))
    listed = site.succeeded(site.ask(plan_id, "ls"))["result"]["result"]
    assert (listed["layout"], len(listed["snapshots"]), len(listed["runs"])) == ("snapshot", 2, 2)
    oldest = min(listed["snapshots"])
    inside = site.succeeded(site.ask(plan_id, "ls", snapshot=oldest))["result"]["result"]
    assert [(one["path"], one["size"]) for one in inside["entries"]] == [("src/a.bin", 11)]
    site.succeeded(site.ask(plan_id, "restore", snapshot=oldest, to=str(site.back)))
    assert (site.back / "src/a.bin").stat().st_size == 11
    pruned = site.admin.ask("POST", f"{site.path}/{plan_id}/prune", {"dry_run": True}, 201)
    ended = site.admin.ended(pruned["id"])
    assert (ended["state"], ended["error"]) == ("failed", "no_retention")


def test_damage_in_a_copy_is_found_by_verify_and_is_shown_as_wrong(site: Site) -> None:
    site.start()
    site.fill("a.bin", 1000)
    plan_id = site.approved()
    site.succeeded(site.ask(plan_id, "run"))
    copy = site.dest / "src/a.bin"
    found = copy.stat()
    copy.write_bytes(b"x" * 1000)
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
    ended = site.operator.ended(site.ask(plan_id, "verify", full=True)["id"])
    assert (ended["state"], ended["error"]) == ("failed", "different")
    shown = site.show(plan_id)
    assert (shown["standing"], shown["is_verified"]) == ("different", False)
    assert "not what was copied" in site.operator.ask("GET", site.path)["sentence"]


def test_running_backup_tells_how_far_it_is_and_is_cancelled_once(site: Site) -> None:
    site.slow_down(KIB_S)
    site.start()
    site.fill("big.bin", 20 * 1024 * 1024)
    plan_id = site.approved()
    site.operator.connect()
    site.operator.call("watch", {"topic": f"agent:{site.asset_id}"})
    job = site.ask(plan_id, "run")
    seen = site.at_work(plan_id)
    assert seen["doing"] == "running"
    assert seen["progress"]["total_bytes"] == 20 * 1024 * 1024
    again = site.operator.ask("POST", f"{site.path}/{plan_id}/run", {}, 409)
    assert (again["code"], again["job_id"]) == ("already_running", job["id"])
    site.operator.ask("POST", f"{site.path}/{plan_id}/cancel", {})
    ended = site.operator.ended(job["id"])
    assert (ended["state"], ended["error"]) == ("cancelled", "cancelled")
    assert site.show(plan_id)["progress"] is None
    site.agent.until(lambda: not site.agent.workers("backup"))
    site.operator.ask("POST", f"{site.path}/{plan_id}/cancel", {}, 404)
    told = [payload for event, payload in list(site.operator.events.queue) if event == "backup"]
    assert any("progress" in one and one["plan_id"] == plan_id for one in told)


def test_run_for_a_machine_that_is_away_waits_and_runs_once_when_it_is_back(site: Site) -> None:
    made = site.describe()
    assert made["job"]["state"] == "queued"
    assert made["doing"] == "queued"
    refused = site.operator.ask(
        "POST", f"{site.agent_path}/backup-schedules/read", {"when_offline": "fail"}, 503
    )
    assert refused["code"] == "agent_offline"
    site.fill("a.bin", 10)
    site.start()
    site.succeeded(made["job"])
    site.admin.ask("POST", f"{site.path}/{made['id']}/approve", {"version": 1})
    site.agent.terminate()
    site.hub.until(
        lambda: site.hub.get(site.agent_path, site.operator.token)[1]["link"] is None, 60
    )
    waiting = site.ask(made["id"], "run")
    assert waiting["state"] == "queued"
    short = site.operator.ask("POST", f"{site.path}/{made['id']}/run", {}, 409)
    assert short["code"] == "already_running"
    site.start()
    site.succeeded(waiting)
    assert (site.dest / "src/a.bin").read_bytes() == (site.source / "a.bin").read_bytes()


def test_hub_killed_while_a_backup_runs_gets_its_result_once(site: Site) -> None:
    site.slow_down(KIB_S)
    site.start()
    data = site.fill("big.bin", 4 * 1024 * 1024)
    plan_id = site.approved()
    job = site.ask(plan_id, "run")
    site.at_work(plan_id)
    site.hub.kill()
    site.hub.start()
    ended = site.operator.ended(job["id"])
    assert ended["state"] == "succeeded", ended
    assert (site.dest / "src/big.bin").read_bytes() == data
    assert site.show(plan_id)["standing"] == "ok"
    kinds = site.hub.read(lambda session: list(session.scalars(select(Job.kind))))
    assert sorted(kinds) == ["backup_plan", "backup_run"]


def test_schedule_is_set_on_the_machine_and_its_run_is_told_without_being_asked_for(
    site: Site,
) -> None:
    site.start()
    site.fill("a.bin", 10)
    plan_id = site.planned()
    path = f"{site.agent_path}/backup-schedules"
    nightly = {"id": "nightly", "plan_id": plan_id, "cron": "* * * * *", "tz": "Europe/Berlin"}
    refused = site.operator.ask("PUT", path, {"schedules": [nightly]}, 409)
    assert refused["code"] == "not_approved"
    site.admin.ask("POST", f"{site.path}/{plan_id}/approve", {})
    wrong = site.operator.ask("PUT", path, {"schedules": [{**nightly, "cron": "x"}]}, 400)
    assert wrong["code"] == "bad_schedule"
    site.succeeded(site.operator.ask("PUT", path, {"schedules": [nightly]}, 201))
    site.succeeded(site.operator.ask("POST", f"{path}/read", {}, 201))
    [shown] = site.operator.ask("GET", path)["schedules"]
    assert (shown["id"], shown["words"], len(shown["next_runs"])) == ("nightly", "Every minute", 3)
    assert site.show(plan_id)["schedules"][0]["tz"] == "Europe/Berlin"
    deadline_s = 200

    def ran() -> Any:
        return site.show(plan_id)["last_run_at"]

    site.hub.until(ran, deadline_s)
    jobs = site.operator.ask("GET", f"/api/v1/jobs?asset_id={site.asset_id}&kind=backup_run")
    assert {(one["state"], one["created_by"]) for one in jobs["items"]} == {
        ("succeeded", "schedule")
    }


def test_failed_run_says_why_and_the_machine_is_marked(site: Site) -> None:
    site.start()
    site.fill("a.bin", 10)
    plan_id = site.approved()
    (site.source / "a.bin").unlink()
    site.source.rmdir()
    ended = site.operator.ended(site.ask(plan_id, "run")["id"])
    assert ended["state"] == "failed", ended
    shown = site.show(plan_id)
    assert (shown["standing"], shown["last_state"]) == ("failed", "failed")
    assert (
        shown["last_error"] in site.operator.ask("GET", site.path)["sentence"]
        or shown["last_detail"]
    )
    ok = site.hub.read(
        lambda session: session.scalar(
            select(Asset.last_backup_ok).where(Asset.id == site.asset_id)
        )
    )
    assert ok is False


def test_foreign_agent_cannot_be_told_a_layout(hub: HubProcess, tmp_path: Path) -> None:
    desk = Desk(hub, hub.add_user("otto", Role.OPERATOR))
    with node_agent(hub, tmp_path, "node-1"):
        asset_id = asset_of(hub, "node-1")
        hub.until(lambda: hub.get(f"/api/v1/agents/{asset_id}", desk.token)[1]["link"])
        body = {"source_dirs": ["/srv/x"], "dest_root": "/mnt/x", "layout": "snapshot"}
        made = desk.ask("POST", f"/api/v1/agents/{asset_id}/backups", body, 201)
        ended = desk.ended(made["job"]["id"])
        assert (ended["state"], ended["error"]) == ("failed", "unsupported")
