"""Crontabs and keys of a real machine, through the hub and its command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.authorize import Role
from tests.doubles import sandbox
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hub_process import JACKLINE, HubProcess, running_hub
from tests.doubles.key_server import KeyServer
from tests.doubles.operator_desk import Desk, asset_of, linked
from tests.doubles.public_keys import ed25519

CRONTAB = """#!/bin/sh
# A crontab(1) that keeps its file beside itself, and refuses what says so.
store="$(dirname "$0")/store"
case "$1" in
-l) [ -e "$store" ] || { echo "no crontab for me" >&2; exit 1; }; cat "$store" ;;
-r) rm -f "$store" ;;
-) cat > "$store.new"; if grep -q REFUSED "$store.new"; then echo "bad minute" >&2; exit 1; fi
   mv "$store.new" "$store" ;;
esac
"""


class Machine:
    """An agent with a crontab program and a home of its own."""

    def __init__(self, agent: AgentProcess, asset_id: str, folder: Path, keys: KeyServer) -> None:
        self.agent, self.asset_id, self.folder, self.keys = agent, asset_id, folder, keys
        self.store = folder / "bin" / "store"
        self.authorized_keys = folder / "home" / ".ssh" / "authorized_keys"


@pytest.fixture(scope="module")
def keys() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


@pytest.fixture(scope="module")
def hub(keys: KeyServer) -> Iterator[HubProcess]:
    with running_hub(env={"JACKLINE_HUB_KEYS_BASE_URL": keys.url}) as running:
        yield running


@contextmanager
def machine_in(
    hub: HubProcess, keys: KeyServer, folder: Path, prefix: list[str] | None = None
) -> Iterator[Machine]:
    name = f"m-{folder.name}"
    (folder / "bin").mkdir()
    (folder / "home").mkdir(mode=0o700)
    program = folder / "bin" / "crontab"
    program.write_text(CRONTAB)
    program.chmod(0o755)
    config = {
        "clientId": name,
        "authToken": hub.add_agent(name),
        "admin": {
            "allowedCommands": ["crontab -l", "crontab -", "cat .ssh/authorized_keys"],
            "path": f"{folder}/bin:/usr/bin:/bin",
        },
        "keys": {"baseUrl": keys.url},
    }
    with running_agent(hub.url, config, prefix=prefix) as agent:
        linked(agent)
        yield Machine(agent, asset_of(hub, name), folder, keys)


@pytest.fixture
def machine(hub: HubProcess, keys: KeyServer, tmp_path: Path) -> Iterator[Machine]:
    with machine_in(hub, keys, tmp_path) as made:
        yield made


@pytest.fixture
def homed(hub: HubProcess, keys: KeyServer, tmp_path: Path) -> Iterator[Machine]:
    """A machine whose account has its home in the test's folder."""
    prefix = sandbox.at_home(tmp_path / "home")
    with machine_in(hub, keys, tmp_path, prefix) as made:
        yield made


class Terminal:
    """Somebody who types commands."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "JACKLINE_HUB_URL": desk.hub.url,
            "JACKLINE_TOKEN": desk.token,
        }

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*JACKLINE, *words],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.fixture
def terminal(desk: Desk, tmp_path: Path) -> Terminal:
    return Terminal(desk, tmp_path)


def test_crontab_is_set_shown_in_words_and_undone(terminal: Terminal, machine: Machine) -> None:
    asset_id = machine.asset_id
    assert terminal.run("cron", "get", asset_id).stdout == ""
    first = "CRON_TZ=Europe/Berlin\n30 2 * * * /bin/backup\n"
    done = terminal.run("cron", "set", asset_id, "--yes", stdin=first)
    assert done.returncode == 0, done.stderr
    assert "+30 2 * * * /bin/backup" in done.stderr
    assert machine.store.read_text() == first
    rows = terminal.run("cron", "get", asset_id, "--rows").stdout
    assert "At 02:30 AM" in rows and "Europe/Berlin" in rows
    terminal.run("cron", "set", asset_id, "--yes", stdin="0 1 * * * second")
    assert machine.store.read_text() == "0 1 * * * second\n"
    assert terminal.run("cron", "undo", asset_id).returncode == 0
    assert machine.store.read_text() == first
    history = terminal.run("cron", "history", asset_id).stdout.splitlines()
    assert [line.split()[2] for line in history[1:]] == ["set", "set", "set", "seen"]


def test_crontab_that_the_machine_refuses_is_told_and_the_old_one_stays(
    terminal: Terminal, machine: Machine
) -> None:
    machine.store.write_text("# old\n")
    done = terminal.run("cron", "set", machine.asset_id, "--yes", stdin="REFUSED\n")
    assert done.returncode == 1
    assert "bad minute" in done.stderr
    assert machine.store.read_text() == "# old\n"
    history = terminal.run("cron", "history", machine.asset_id).stdout.splitlines()
    assert [line.split()[2] for line in history[1:]] == ["seen"]


def test_crontab_that_changed_meanwhile_is_not_overwritten(desk: Desk, machine: Machine) -> None:
    path = f"/api/v1/agents/{machine.asset_id}/cron"
    machine.store.write_text("# edited here\n")
    desk.ended(desk.ask("POST", f"{path}/read", {}, want=201)["id"])
    known = desk.ask("GET", path)
    other = desk.ask("PUT", path, {"text": "# somebody else\n"}, want=201)
    assert desk.ended(other["id"])["state"] == "succeeded"
    body = {"text": "# mine\n", "expected": known["version"]["digest"]}
    assert desk.ask("PUT", path, body, want=409)["code"] == "changed"
    assert machine.store.read_text() == "# somebody else\n"


def test_tenant_policy_covers_crontabs_and_keys(
    hub: HubProcess, desk: Desk, machine: Machine
) -> None:
    admin = Desk(hub, hub.token())
    document = {"admin": {"allowedCommands": ["crontab -l"]}, "tags": {}}
    admin.ask("PUT", "/api/v1/policy", {"document": document})
    path = f"/api/v1/agents/{machine.asset_id}"
    refused = desk.ask("PUT", f"{path}/cron", {"text": "# x\n"}, want=201)
    assert (refused["state"], refused["error"]) == ("failed", "policy_denied")
    admin.ask("PUT", "/api/v1/policy", {"document": {"profile": "reporter"}})
    refused = desk.ask("POST", f"{path}/keys/sync", {"user": "octocat"}, want=201)
    assert (refused["state"], refused["error"]) == ("failed", "policy_denied")
    admin.ask("PUT", "/api/v1/policy", {"document": {}})
    assert not machine.store.exists() and not machine.authorized_keys.exists()


def test_keys_are_previewed_as_far_as_can_be_known_and_synced(
    desk: Desk, terminal: Terminal, homed: Machine
) -> None:
    homed.keys.body = f"{ed25519(1)}\n{ed25519(2)}\nssh-dss AAAA\n".encode()
    words = (homed.asset_id, "--user", "octocat")
    done = terminal.run("keys", "preview", *words)
    assert (done.returncode, done.stdout.count("is added")) == (0, 2), done.stderr
    done = terminal.run("keys", "sync", *words, "--yes")
    assert done.returncode == 0, done.stderr
    assert "2 added" in done.stderr
    assert homed.authorized_keys.read_text().count("ssh-ed25519") == 2
    homed.keys.body = f"{ed25519(1)}\n{ed25519(3)}\n".encode()
    shown = terminal.run("keys", "preview", *words).stdout
    assert [shown.count(fate) for fate in ("is there", "is added", "is stale")] == [1, 1, 1]
    homed.keys.body = f"{ed25519(1)}\n{ed25519(2)}\nssh-dss AAAA\n".encode()
    source = desk.ask("GET", "/api/v1/keys/octocat")
    assert (len(source["keys"]), source["rejected"]) == (2, 1)
    assert desk.ask("GET", "/api/v1/keys/..%2froot", want=404)
    assert desk.ask("GET", "/api/v1/keys/-x", want=400)["code"] == "bad_user"


def test_machine_that_does_not_let_its_keys_be_read_is_said_to_be_unknown(
    hub: HubProcess, terminal: Terminal, keys: KeyServer
) -> None:
    keys.body = f"{ed25519(1)}\n".encode()
    document = {"admin": {"allowedCommands": ["uptime"]}}
    name = "closed"
    config = {"clientId": name, "authToken": hub.add_agent(name), **document}
    with running_agent(hub.url, config):
        done = terminal.run("keys", "preview", asset_of(hub, name), "--user", "octocat")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not known") == 1
    assert "does not let the hub read it" in done.stderr


def test_source_that_fails_is_told(desk: Desk, machine: Machine) -> None:
    path = f"/api/v1/agents/{machine.asset_id}/keys"
    machine.keys.status = 500
    try:
        assert desk.ask("POST", f"{path}/preview", {"user": "u"}, want=409)["code"] == (
            "source_failed"
        )
        job = desk.ask("POST", f"{path}/sync", {"user": "u"}, want=201)
        ended = desk.ended(job["id"])
        assert (ended["state"], ended["error"]) == ("failed", "http_500")
    finally:
        machine.keys.status = 200


def test_auditor_reads_and_changes_nothing(hub: HubProcess, machine: Machine) -> None:
    auditor = Desk(hub, hub.add_user(f"ann-{machine.folder.name}", Role.AUDITOR))
    path = f"/api/v1/agents/{machine.asset_id}"
    assert auditor.ask("GET", f"{path}/cron")["version"] is None
    auditor.ask("PUT", f"{path}/cron", {"text": ""}, want=403)
    auditor.ask("POST", f"{path}/cron/read", {}, want=403)
    auditor.ask("POST", f"{path}/keys/sync", {"user": "u"}, want=403)
