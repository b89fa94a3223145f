"""A hub whose disk is full, and one whose PostgreSQL is away: links stay, nothing is lost.

Fault cases C. `make test` scales it down, `make soak FAMILY=hub` runs it in full.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import sandbox
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.enrolled import EnrolledAgent
from tests.doubles.hub_process import JACKLINE, HubProcess, running_hub
from tests.doubles.operator_desk import Desk, Script, asset_of, linked
from tests.doubles.postgres import PostgresServer
from tests.facilities import require

pytestmark = pytest.mark.timeout(600)
# The hub's files on a small disk of their own, which only the hub's own processes see.
SMALL_DISK = """cp -a {0} {0}.copy
mount -t tmpfs -o size=24m,mode=700 none {0}
cp -a {0}.copy/. {0}
rm -r {0}.copy"""
# What the log in front of the database has room for would still be saved: it is emptied first.
EMPTY = """{python} -c 'import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute("PRAGMA wal_checkpoint(TRUNCATE)")' {0}/hub.db"""
FILL = "cat /dev/zero > {0}/filler; exit 0"
RECOVERY_S = 10.0


@pytest.fixture
def postgres_alone() -> Iterator[PostgresServer]:
    """A server that a test may stop: no other test's."""
    server = PostgresServer()
    yield server
    server.close()


class Disk:
    """The small disk of a running hub."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub

    def fill(self) -> None:
        self._within(EMPTY)
        self._within(FILL)

    def free(self) -> None:
        self._within("rm {0}/filler")

    def _within(self, script: str) -> None:
        argv = [require("nsenter"), "-m", "-t", str(self._hub.pid), "sh", "-c"]
        command = [*argv, script.format(self._hub.state_dir, python=sys.executable)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def test_a_full_disk_refuses_with_507_and_acknowledges_nothing_that_is_not_saved(
    tmp_path: Path,
) -> None:
    hub = HubProcess()
    hub.prefix = sandbox.mounts(SMALL_DISK.format(hub.state_dir))
    config = {"authToken": hub.add_agent("agent-1")}
    asset_id, desk = asset_of(hub), Desk(hub, hub.token())
    script = Script(tmp_path)
    try:
        hub.start()
        with running_agent(hub.url, config) as agent:
            linked(agent)
            big = script("echo begun; WAIT; seq 1 30000")
            job = desk.run(asset_id, big, timeout_sec=300)
            hub.until(lambda: script.runs == 1)
            disk = Disk(hub)
            disk.fill()
            refused = hub.until(lambda: refusal(desk, asset_id))
            assert (refused["status"], refused["code"]) == (507, "no_space")
            assert str(hub.state_dir) not in str(refused)
            script.gate.touch()
            agent.until(lambda: agent.ask("status")["outbox"]["count"] >= 1)
            attempts = refusals(desk, asset_id)
            assert set(attempts) == {507}  # seconds in which the hub tries to save, too
            assert desk.job(job["id"])["state"] in ("sent", "running")  # and reading works
            status = agent.ask("status")
            assert status["outbox"]["count"] >= 1
            assert (status["link"]["state"], status["link"]["reconnects"]) == ("up", 0)
            disk.free()
            ended = desk.ended(job["id"])
            assert (ended["state"], script.runs) == ("succeeded", 1)
            assert ended["result"]["stdout"].startswith("begun\n1\n2\n")
            agent.until(lambda: not agent.ask("status")["outbox"]["count"])
            assert agent.ask("status")["link"]["reconnects"] == 0
            assert desk.ended(desk.run(asset_id, "true")["id"])["state"] == "succeeded"
        verified = hub_command(hub, "audit", "verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "Traceback" not in hub.log()
    finally:
        hub.close()


def refusal(desk: Desk, asset_id: str) -> dict[str, Any] | None:
    """Write until something is refused: a log that has room left takes a few rows more."""
    body = {"tags": [f"t{time.monotonic_ns()}"]}
    path = f"/api/v1/agents/{asset_id}/tags"
    status, answer = desk.hub.request("PUT", path, desk.token, body)
    assert status in (200, 507), answer
    return answer if status == 507 else None


def refusals(desk: Desk, asset_id: str) -> list[int]:
    found = []
    for _ in range(20):
        body = {"command": "true", "cwd": "/" + "x" * 3000}
        status, _ = desk.hub.request("POST", f"/api/v1/agents/{asset_id}/admin", desk.token, body)
        found.append(status)
        time.sleep(0.1)
    return found


def hub_command(hub: HubProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a word of `jackline hub` where the small disk is seen."""
    within = [require("nsenter"), "-m", "-t", str(hub.pid)]
    command = [*within, *JACKLINE, "hub", *words, "--state-dir", str(hub.state_dir)]
    return subprocess.run(
        command, env=hub.env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.family("hub")
def test_a_database_that_is_away_costs_no_link_and_no_result(
    postgres_alone: PostgresServer, tmp_path: Path, soak: bool
) -> None:
    env = {"JACKLINE_HUB_HEARTBEAT_INTERVAL_S": "1"}
    script = Script(tmp_path)
    with running_hub(postgres_alone.create(), env) as hub:
        token = hub.command("token", "create", "--quiet").stdout
        more = {"admin": {"enableShell": True, "allowedCommands": ["*"]}}
        agent = EnrolledAgent(token, "--hub", hub.url, "--profile", "full", config=more)
        try:
            allow_all(agent)
            agent.start()
            agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up")
            desk = Desk(hub, hub.token())
            asset_id = agent.identity["asset_id"]
            job = desk.run(asset_id, script("WAIT; echo done"), timeout_sec=600)
            hub.until(lambda: script.runs == 1)

            postgres_alone.stop()
            away_s = time.monotonic()
            refused = hub.until(lambda: beat_refusal(hub, agent))
            assert refused.code == 503
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            script.gate.touch()
            agent.until(lambda: agent.ask("status")["outbox"]["count"] == 1)
            while time.monotonic() - away_s < (120 if soak else 5):
                assert hub.get("/healthz")[0] == 200
                assert hub.get("/readyz")[0] == 503
                assert agent.link == "up"
                time.sleep(0.25)
            assert hub.request("GET", f"/api/v1/jobs/{job['id']}", desk.token)[0] == 503

            postgres_alone.start_again()
            back_s = time.monotonic()
            ended = desk.ended(job["id"])
            assert (ended["state"], ended["result"]["stdout"]) == ("succeeded", "done\n")
            agent.until(lambda: agent.heartbeat["state"] == "up", 10 * RECOVERY_S)
            took_s = time.monotonic() - back_s
            print(f"\nrecovered {took_s:.1f} s after the database")
            assert took_s < (RECOVERY_S if soak else 10 * RECOVERY_S)
            assert script.runs == 1
            assert agent.ask("status")["link"]["reconnects"] == 0
        finally:
            agent.close()
        assert [line[-1500:] for line in hub.log().splitlines() if "Traceback" in line] == []


def allow_all(agent: AgentProcess) -> None:
    policy = agent.config_file.parent / "policy.yaml"
    policy.write_text("profile: full\nadmin:\n  allowedCommands: ['*']\n")
    policy.chmod(0o600)


def beat_refusal(hub: HubProcess, agent: EnrolledAgent) -> urllib.error.HTTPError | None:
    """Beat as the agent does; return the refusal, None where it was taken."""
    headers = {"Authorization": f"Bearer {agent.identity['service_account_token']}"}
    headers["Content-Type"] = "application/json"
    sent_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"agent_id": agent.identity["agent_id"], "seq": 1, "sent_at": sent_at, "boot_id": "x"}
    request = urllib.request.Request(
        f"{hub.url}/api/v1/agents/heartbeat", json.dumps(body).encode(), headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=30):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return error
