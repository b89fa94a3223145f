"""A machine on which install.sh made an account for the service: root enrols, the account serves.

Root writes what the account must read, and leaves nothing in its directories that it may not open.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.installed_machine import Machine, bare, install, wheel_in

ACCOUNT = "jackline-test"
STATE = "/var/lib/jackline"
# The hub's certificates live 36 s, and are renewed from two thirds of that.
HUB = {"JACKLINE_HUB_HEARTBEAT_INTERVAL_S": "1", "JACKLINE_HUB_CERTIFICATE_HOURS": "0.01"}
# An environment is made before the first test: beside others that takes minutes.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub(env=HUB) as hub:
        yield hub


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that a newcomer has just installed: no configuration yet."""
    with bare(tmp_path_factory.mktemp("machine")) as machine:
        wheel = wheel_in(tmp_path_factory.mktemp("wheel"))
        machine.run(*install(wheel), "--user", ACCOUNT)
        yield machine


@pytest.fixture
def enrolled(machine: Machine, hub: HubProcess) -> Iterator[Machine]:
    """Root has enrolled it, and takes it back afterwards."""
    enroll(machine, hub)
    yield machine
    machine.run("jackline", "unenroll")


def enroll(machine: Machine, hub: HubProcess, *words: str) -> dict[str, Any]:
    token = hub.command("token", "create", "--quiet").stdout
    done = machine.run(
        "jackline", "enroll", "--hub", hub.url, "--token-stdin", "--json", *words, stdin=token
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def unconfigure(machine: Machine) -> None:
    for path in machine.at("/etc/jackline").iterdir():
        path.unlink()


@contextlib.contextmanager
def running(machine: Machine, hub: HubProcess) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent as its account until it beats; end it with everything afterwards, as root."""
    agent = machine.spawn_agent(ACCOUNT)
    try:
        hub.until(lambda: agent.poll() is not None or heartbeat(machine).get("state") == "up")
        assert agent.poll() is None, log(machine)
        yield agent
        assert machine.run("jackline", "stop").stderr.endswith("nothing is left\n")
        assert agent.wait(30) == 0
    finally:
        agent.kill()
        agent.wait(10)


def heartbeat(machine: Machine) -> dict[str, Any]:
    done = machine.run("jackline", "status", "--json", check=False)
    told: dict[str, Any] = json.loads(done.stdout).get("heartbeat", {}) if done.stdout else {}
    return told


def log(machine: Machine) -> str:
    path = machine.at("/var/log/jackline/agent.log")
    return path.read_text() if path.exists() else "no log"


def identity(machine: Machine) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(machine.at(f"{STATE}/identity/identity.json").read_text())
    return told


def account(machine: Machine) -> int:
    return int(machine.run("id", "-u", ACCOUNT).stdout)


def of_others(machine: Machine) -> list[Path]:
    """What in the state directory is not the account's alone."""
    wanted = account(machine)
    found = []
    for path in machine.at(STATE).rglob("*"):
        status = path.lstat()
        may_others = not path.is_socket() and stat.S_IMODE(status.st_mode) & 0o077
        if status.st_uid != wanted or may_others:
            found.append(path)
    return found


def test_root_enrols_and_the_account_reports_renews_and_collects(
    machine: Machine, hub: HubProcess
) -> None:
    """All of it with the files as `enroll` left them."""
    who = hub.token()
    unconfigure(machine)
    told = enroll(machine, hub)
    assert told["written"] == ["/etc/jackline/agent-config.json", "/etc/jackline/policy.yaml"]
    for path in told["written"]:
        found = machine.at(path).stat()
        group = int(machine.run("id", "-g", ACCOUNT).stdout)
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, group, 0o640)
    assert of_others(machine) == []
    with running(machine, hub) as agent:
        assert Path(f"/proc/{agent.pid}").stat().st_uid == account(machine)
        path = f"/api/v1/agents/{told['asset_id']}"
        hub.until(lambda: hub.get(path, who)[1]["presence"] == "online")
        body = {"asset_id": told["asset_id"], "command_type": "collect_inventory"}
        key = secrets.token_hex(8)
        status, command = hub.request(
            "POST", "/api/v1/commands", who, {**body, "idempotency_key": key}
        )
        assert status == 201, command
        path = f"/api/v1/commands/{command['command_id']}"
        done = hub.until(
            lambda: (found := hub.get(path, who)[1])["state"] in ("completed", "failed") and found
        )
        assert done["state"] == "completed", done
        assert done["result_summary"]["counts"]["users"] > 0
        first = identity(machine)
        hub.until(lambda: identity(machine)["certificate"] != first["certificate"], 150)
        assert identity(machine)["key"] != first["key"]
        assert "could not be written" not in log(machine)
        hub.until(lambda: heartbeat(machine)["state"] == "up")
    assert of_others(machine) == []
    done = machine.run("jackline", "unenroll")
    assert "is forgotten" in done.stderr
    assert not machine.at(f"{STATE}/identity/identity.json").exists()
    assert machine.run("jackline", "unenroll", check=False).returncode == 4


def test_machine_enrolled_again_is_the_same_asset(enrolled: Machine, hub: HubProcess) -> None:
    first = identity(enrolled)
    second = enroll(enrolled, hub, "--replace")
    assert second["asset_id"] == first["asset_id"]
    assert second["agent_id"] != first["agent_id"] and second["written"] == []
    assert of_others(enrolled) == []


def test_commands_of_root_leave_nothing_that_the_account_may_not_open(
    enrolled: Machine, hub: HubProcess
) -> None:
    """`stop` before the first job once made the directory of jobs root's."""
    for words in (
        ("stop",),
        ("pause", "maintenance"),
        ("config", "check"),
        ("policy", "show"),
        ("policy", "test", "telemetry"),
    ):
        enrolled.run("jackline", *words)
    enrolled.run("jackline", "doctor", check=False)
    assert of_others(enrolled) == []
    with running(enrolled, hub):
        assert json.loads(enrolled.run("jackline", "status", "--json").stdout)["paused"]
        enrolled.run("jackline", "resume")
        found = json.loads(enrolled.run("jackline", "doctor", "--json", check=False).stdout)
        bad = [one for one in found if one["state"] == "failed"]
        assert bad == [], found
    assert of_others(enrolled) == []


@pytest.mark.parametrize("planted", ["identity", "paused", "agent.lock", "jobs"])
def test_link_that_the_account_has_laid_leads_root_nowhere(
    machine: Machine, hub: HubProcess, planted: str
) -> None:
    victim = machine.at("/var/lib/precious")
    victim.mkdir(mode=0o700, exist_ok=True)
    link = machine.at(STATE) / planted
    become = ("setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups")
    machine.run("rm", "-rf", f"{STATE}/{planted}")
    target = "/var/lib/precious" if planted in ("identity", "jobs") else "/var/lib/precious/file"
    machine.run(*become, "ln", "-s", target, f"{STATE}/{planted}")
    try:
        token = hub.command("token", "create", "--quiet").stdout
        words = {"identity": ["enroll", "--hub", hub.url, "--token-stdin"], "paused": ["pause"]}
        done = machine.run("jackline", *words.get(planted, ["stop"]), check=False, stdin=token)
        assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
        assert list(victim.iterdir()) == []
    finally:
        link.unlink()


def test_who_is_neither_root_nor_the_account_is_told_who_may(
    machine: Machine, hub: HubProcess
) -> None:
    become = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    here = ("env", f"JACKLINE_STATE_DIR={STATE}", "jackline")
    for words in (("enroll", "--hub", hub.url, "--token-stdin"), ("unenroll",)):
        done = machine.run(*become, *here, *words, check=False)
        assert done.returncode == 78
        assert done.stderr.endswith(f"({ACCOUNT}): run it as root or as {ACCOUNT}\n")


def test_account_that_may_not_write_the_configuration_keeps_its_token(
    machine: Machine, hub: HubProcess
) -> None:
    """Else its hub would have a machine without a policy of its own."""
    become = ("setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups")
    words = ("jackline", "enroll", "--hub", hub.url, "--token-stdin")
    token = hub.command("token", "create", "--quiet").stdout
    unconfigure(machine)
    done = machine.run(*become, *words, check=False, stdin=token)
    assert done.returncode == 77 and "run it as root" in done.stderr, done.stderr
    machine.run(*words, stdin=token)
    machine.run(*become, "jackline", "unenroll")
