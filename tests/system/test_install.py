"""install.sh as root, on a machine whose /etc, /opt, /run and /var are this test's own.

A mount name space hides the real ones; the packages come through pip as on any machine.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.installed_machine import Machine, bare, install, wheel_in
from tests.facilities import ROOT

CONFIG = {"clientId": "a", "serverUrl": "http://127.0.0.1:9", "authToken": "tokentoken"}
# An environment is made twice before the first test: beside others that takes minutes.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_in(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which nothing of ours has been yet."""
    with bare(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture
def machine(bare_machine: Machine, wheel: Path) -> Machine:
    """The same with install.sh run, for an account of its own, and configured."""
    done = bare_machine.at("/opt/jackline/.tested")  # not for a run that was broken off
    if not done.exists():
        bare_machine.run(*install(wheel), "--user", "jackline-test")
        bare_machine.at("/etc/jackline/agent-config.json").write_text(json.dumps(CONFIG))
        bare_machine.run(*install(wheel), "--user", "jackline-test")
        done.touch()
    return bare_machine


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_install_makes_environment_command_unit_account_and_places(machine: Machine) -> None:
    assert machine.run("jackline", "--version").stdout.startswith("jackline ")
    unit = machine.at("/etc/systemd/system/jackline.service").read_text()
    assert "ExecStart=/opt/jackline/bin/jackline run\n" in unit
    assert "User=jackline-test\n" in unit
    assert machine.run("id", "-u", "jackline-test").stdout.strip() != "0"
    assert mode(machine.at("/var/lib/jackline")) == 0o700
    assert mode(machine.at("/var/log/jackline")) == 0o700
    assert mode(machine.at("/etc/jackline")) == 0o750
    assert machine.at("/opt/jackline/supervisor/supervisor.conf").is_file()


def test_install_puts_the_plugin_where_any_python_may_take_it_from(machine: Machine) -> None:
    code = "from agent.supervisor.ctlplugin import make_worker_plugin as m; print(m(None).name)"
    done = machine.run(
        "env", "-i", "PYTHONPATH=/opt/jackline/supervisor", "/usr/bin/python3", "-c", code
    )
    assert done.stdout == "worker\n"


def test_install_again_upgrades_and_keeps_the_configuration(machine: Machine, wheel: Path) -> None:
    """What root has left in the directories, as an agent of its own, is the account's then."""
    config = machine.at("/etc/jackline/agent-config.json")
    config.chmod(0o644)
    machine.run("touch", "/var/lib/jackline/left", "/var/log/jackline/left")
    machine.run("chown", "-R", "root:root", "/var/lib/jackline", "/var/log/jackline")
    machine.run(*install(wheel), "--user", "jackline-test")
    for place in ("/var/lib/jackline", "/var/log/jackline"):
        owners = machine.run("find", place, "-printf", "%u\n").stdout.split()
        assert len(owners) > 1 and set(owners) == {"jackline-test"}
    assert json.loads(config.read_text()) == CONFIG
    assert mode(config) == 0o640
    assert machine.run("jackline", "config", "check").returncode == 0


def test_installed_agent_runs_as_its_account_and_answers_root(machine: Machine) -> None:
    agent = machine.spawn_agent("jackline-test")
    try:
        deadline_s = time.monotonic() + 60
        while (done := machine.run("jackline", "status", "--json", check=False)).returncode == 69:
            assert time.monotonic() < deadline_s, done.stderr
            assert agent.poll() is None
            time.sleep(0.05)
        told = json.loads(done.stdout)
        assert told["log"]["file"] == "/var/log/jackline/agent.log"
        owner = Path(f"/proc/{told['pid']}").stat().st_uid
        assert str(owner) == machine.run("id", "-u", "jackline-test").stdout.strip()
        found = json.loads(machine.run("jackline", "doctor", "--json", check=False).stdout)
        states = {f["check"]: f["state"] for f in found if f["check"] in ("directories", "agent")}
        assert states["directories"] == "ok", found
        assert machine.run("jackline", "stop").returncode == 0
        assert agent.wait(20) == 0
    finally:
        agent.kill()
        agent.wait(10)


@pytest.mark.parametrize(
    "words", [["--reporter"], ["--purge"], ["--user", "-x"], ["--user", "a b"], ["--dance"]]
)
def test_install_refuses_bad_options_before_it_does_anything(
    machine: Machine, words: list[str]
) -> None:
    before = machine.at("/etc/systemd/system/jackline.service").stat()
    script = str(ROOT / "packaging" / "install.sh")
    assert machine.run(script, *words, check=False).returncode in (1, 2)
    assert machine.at("/etc/systemd/system/jackline.service").stat() == before


def test_uninstall_keeps_what_is_the_owners_and_purge_takes_it(machine: Machine) -> None:
    script = str(ROOT / "packaging" / "install.sh")
    machine.run(script, "--uninstall")
    for gone in (
        "/opt/jackline",
        "/usr/local/bin/jackline",
        "/etc/systemd/system/jackline.service",
    ):
        assert not os.path.lexists(machine.at(gone))
    assert machine.at("/etc/jackline/agent-config.json").exists()
    assert machine.at("/var/lib/jackline").exists()
    machine.run(script, "--uninstall", "--purge")
    for gone in ("/etc/jackline", "/var/lib/jackline", "/var/log/jackline"):
        assert not machine.at(gone).exists()
