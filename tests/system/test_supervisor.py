"""The agent under a real supervisord, with the repository's own supervisor.conf.

supervisor 4.3 stands beside jackline, 4.2.5 in an interpreter that has no jackline installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.supervisor import ctlplugin
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.facilities import ROOT, SUPERVISOR_42, require_path
from wire import __version__

CLIENT, TOKEN = "agent-1", "a secret of the tests"
JACKLINE_BIN = Path(sys.executable).parent
DEADLINE_S = 60.0
# What a person waits for, measured from the moment of the SIGSTOP.
BACK_ONLINE_S = 30.0
BOTH = pytest.mark.parametrize("supervisord", ["4.3", "4.2.5"], indirect=True, scope="module")
# What is the agent's alone and not supervisord's to get wrong.
NEWEST = pytest.mark.parametrize("supervisord", ["4.3"], indirect=True, scope="module")


def until(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"never: {what}")
        time.sleep(0.05)
    return found


@dataclass
class Supervised:
    """A supervisord of a test's own, the agent under it, and the hub that the agent links to."""

    root: Path
    supervisor_bin: Path
    hub: ScriptedHub
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ = {
            "PATH": f"{JACKLINE_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.root),
        }
        for name in ("CONFIG", "STATE", "RUN", "LOG"):
            self.environ[f"JACKLINE_{name}_DIR"] = str(self.root / name.lower())
        shutil.copy(ROOT / "supervisor.conf", self.root / "supervisor.conf")
        place = self.root / "plugin" / "agent" / "supervisor"
        if self.supervisor_bin == SUPERVISOR_42:
            place.mkdir(parents=True)
            shutil.copy(str(ctlplugin.__file__), place / "ctlplugin.py")
        self.write_config()
        self.process: subprocess.Popen[bytes] | None = None

    def write_config(self, **more: Any) -> None:
        content = {
            "clientId": CLIENT,
            "serverUrl": self.hub.url,
            "authToken": TOKEN,
            "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 4},
            "shell": {"command": "/bin/bash", "args": ["--norc", "--noprofile"]},
            **self.config,
            **more,
        }
        path = self.root / "config" / "agent-config.json"
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.write_text(json.dumps(content))
        path.chmod(0o600)

    # -- supervisord ---------------------------------------------------------------------------

    def start(self) -> None:
        argv = [str(self.supervisor_bin / "supervisord"), "-n", "-c", str(self.conf)]
        with open(self.root / "supervisord.out", "ab") as out:
            self.process = subprocess.Popen(
                argv, env=self.environ, cwd=self.root, stdout=out, stderr=out
            )
        until(lambda: self.ctl("pid").returncode == 0, "supervisord answers")

    @property
    def conf(self) -> Path:
        return self.root / "supervisor.conf"

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(self.supervisor_bin / "supervisorctl"), "-c", str(self.conf), *words]
        return subprocess.run(
            argv,
            env={**self.environ, "PYTHONPATH": str(self.root / "plugin")},
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def state(self, program: str = "agent") -> str:
        return self.ctl("status", program).stdout.split()[1]

    def agent_pid(self) -> int:
        text = self.ctl("pid", "agent").stdout.strip()
        return int(text) if text.isdigit() else 0

    # -- jackline ------------------------------------------------------------------------------

    def jackline(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(JACKLINE_BIN / "jackline"), *words],
            env=self.environ,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def workers(self) -> list[dict[str, Any]]:
        done = self.jackline("worker", "list", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else []

    def link_up(self) -> bool:
        return self.jackline("status").returncode == 0

    def processes(self) -> list[int]:
        """Every process of this test's endpoint: what has our state directory in its environment.

        The zygote and workers have an environment of their own; they are known by their command.
        """
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.root).encode() in told and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found

    def close(self) -> None:
        self.jackline("stop")
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture(scope="module")
def supervisord(request: pytest.FixtureRequest) -> Iterator[Supervised]:
    """A supervisord with the agent under it; one for all tests of a version: each start takes 5 s
    to count as RUNNING."""
    if request.param == "4.3":
        bin_dir = require_path(JACKLINE_BIN / "supervisord", "install jackline").parent
    else:
        bin_dir = require_path(SUPERVISOR_42, "make .venv-supervisor-4.2/.ready")
    # Socket paths are short, and pytest's directories are not.
    root = Path(tempfile.mkdtemp(prefix="jl-"))
    with ScriptedHub(HubOptions(tokens={CLIENT: TOKEN})) as hub:
        made = Supervised(root, bin_dir, hub)
        try:
            made.start()
            yield made
        finally:
            made.close()
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def supervised(supervisord: Supervised) -> Iterator[Supervised]:
    """The same, the agent linked; what was said is printed when the test fails."""
    if supervisord.state() in ("STOPPED", "EXITED", "FATAL"):
        supervisord.ctl("start", "agent")
    until(supervisord.link_up, "the link is up")
    yield supervisord
    _tell(supervisord.root)


def _tell(root: Path) -> None:
    for path in (root / "supervisord.log", root / "log" / "agent.log", root / "supervisord.out"):
        if path.exists():
            print(f"--- {path}\n{path.read_text()[-4000:]}", file=sys.stderr)


def open_shell(hub: ScriptedHub) -> str:
    """Start a shell, wait until it has computed an answer, and return its session."""
    session = f"s-{time.monotonic_ns()}"
    hub.emit("shell_start", {"session": session})
    type_into(hub, session, "first")
    return session


def type_into(hub: ScriptedHub, session: str, text: str) -> None:
    """Let a shell compute; what is echoed of the input does not count."""
    hub.emit("shell_input", {"session": session, "data": f"echo {text}$((6*7))\n"})
    hub.wait_for_output(session, f"{text}42", DEADLINE_S)


def go_on(hub: ScriptedHub, session: str) -> None:
    """After a reconnect: take up the output where it stopped, as a hub does, and compute."""
    hub.emit("shell_resume", {"session": session, "offset": len(hub.output(session))})
    type_into(hub, session, "after")


def await_link_after(hub: ScriptedHub, seen: int, timeout_s: float = DEADLINE_S) -> None:
    until(lambda: len(hub.connections) > seen, "a new connection", timeout_s)


@BOTH
def test_supervisord_starts_agent_and_watch(supervised: Supervised) -> None:
    assert supervised.state() == "RUNNING" or until(
        lambda: supervised.state() == "RUNNING", "the agent is RUNNING"
    )
    assert supervised.state("agent-watch") in ("RUNNING", "STARTING")
    assert supervised.jackline("--version").stdout.strip() == f"jackline {__version__}"


@BOTH
def test_supervisorctl_worker_lists_shows_restarts_and_stops(supervised: Supervised) -> None:
    session = open_shell(supervised.hub)
    listed = supervised.ctl("worker", "list")
    assert listed.returncode == 0
    rows = [line.split() for line in listed.stdout.splitlines()]
    [shell] = [row[0] for row in rows if row[1] == "shell"]
    assert shell in supervised.ctl("worker", "show", "shell").stdout
    assert supervised.ctl("worker", "restart", shell).stdout == f"{shell}: restarted\n"
    type_into(supervised.hub, session, "again")
    assert supervised.ctl("worker", "stop", shell).stdout == f"{shell}: stopped\n"
    supervised.hub.wait_for("shell_closed", session=session)
    missing = supervised.ctl("worker", "restart", "nothing")
    assert "ERROR" in missing.stdout
    assert missing.returncode != 0
    assert "worker list" in supervised.ctl("help", "worker").stdout


@BOTH
def test_supervisorctl_restart_keeps_an_open_shell_and_a_running_command(
    supervised: Supervised,
) -> None:
    hub = supervised.hub
    session, job = open_shell(hub), f"j-{time.monotonic_ns()}"
    go = supervised.root / "go"
    command = f"sh -c 'until [ -e {go} ]; do sleep 0.1; done; echo done'"
    hub.emit(
        "admin_run", {"token": job, "jobId": job, "cmd": {"command": command, "timeoutSec": 60}}
    )
    before = until(lambda: jobs_of(supervised, 2), "both jobs")
    old_pid, seen = supervised.agent_pid(), len(hub.connections)
    assert "agent: started" in supervised.ctl("restart", "agent").stdout
    await_link_after(hub, seen)
    assert supervised.agent_pid() not in (0, old_pid)
    assert until(lambda: jobs_of(supervised, 2), "both jobs, adopted") == before
    go_on(hub, session)
    go.touch()
    result = hub.wait_for("admin_result", timeout=DEADLINE_S, token=job).payload["result"]
    assert (result["summary"]["code"], result["stdout"]) == (0, "done\n")
    assert len(hub.events("admin_result", token=job)) == 1
    end_shell(hub, session)


@BOTH
def test_agent_watch_kills_a_stopped_agent_and_its_jobs_live(supervised: Supervised) -> None:
    hub = supervised.hub
    session = open_shell(hub)
    pid, seen = supervised.agent_pid(), len(hub.connections)
    began_s = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    await_link_after(hub, seen)
    took_s = time.monotonic() - began_s
    assert supervised.agent_pid() not in (0, pid)
    go_on(hub, session)
    end_shell(hub, session)
    assert took_s < BACK_ONLINE_S


@NEWEST
def test_killed_agent_is_started_again_and_its_shell_goes_on(supervised: Supervised) -> None:
    hub = supervised.hub
    session, seen = open_shell(hub), len(hub.connections)
    os.kill(supervised.agent_pid(), signal.SIGKILL)
    await_link_after(hub, seen)
    go_on(hub, session)
    end_shell(hub, session)


@NEWEST
def test_supervisorctl_stop_leaves_jobs_and_jackline_stop_ends_them(
    supervised: Supervised,
) -> None:
    open_shell(supervised.hub)
    [pid] = jobs_of(supervised, 1).values()
    assert "agent: stopped" in supervised.ctl("stop", "agent").stdout
    assert runs(pid)
    assert supervised.jackline("status").returncode == 69
    done = supervised.jackline("stop")
    assert done.returncode == 0, done.stderr
    assert not runs(pid)
    assert supervised.state() == "STOPPED"


@NEWEST
def test_jackline_stop_with_a_running_agent_leaves_nothing_and_stays_stopped(
    supervised: Supervised,
) -> None:
    session = open_shell(supervised.hub)
    until(lambda: supervised.state() == "RUNNING", "RUNNING: an exit before that is a failed start")
    pids = [w["pid"] for w in supervised.workers()] + [supervised.agent_pid()]
    done = supervised.jackline("stop")
    assert done.returncode == 0, done.stderr
    assert [pid for pid in pids if runs(pid)] == []
    supervised.hub.wait_for("shell_closed", session=session)
    assert until(lambda: supervised.state() == "EXITED", "EXITED")


@NEWEST
def test_second_agent_on_the_same_state_exits_75(supervised: Supervised) -> None:
    done = supervised.jackline("run")
    assert done.returncode == 75
    assert "already running" in done.stderr


@NEWEST
def test_agent_that_became_fatal_is_started_once_its_configuration_is_mended(
    supervised: Supervised,
) -> None:
    """With our startretries FATAL takes hours; here it takes two failed starts."""
    text = supervised.conf.read_text()
    impatient = re.sub(r"(?s)(\[program:agent\].*?startretries=)100", r"\g<1>1", text)
    supervised.conf.write_text(impatient.replace("_watch agent", "_watch agent 5"))
    seen = len(supervised.hub.connections)
    supervised.write_config(clientId="not valid")
    supervised.ctl("update")
    until(lambda: supervised.state() == "FATAL", "FATAL")
    supervised.write_config()
    await_link_after(supervised.hub, seen)
    until(lambda: supervised.state() == "RUNNING", "RUNNING")


def runs(pid: int) -> bool:
    """Is there such a process, and is it more than an exit code that nobody has fetched yet?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def jobs_of(supervised: Supervised, count: int) -> dict[str, int]:
    """Return pid by id of the jobs, telemetry aside; empty while there are not `count`."""
    found = {w["id"]: w["pid"] for w in supervised.workers() if w["kind"] != "telemetry"}
    return found if len(found) == count else {}


def end_shell(hub: ScriptedHub, session: str) -> None:
    assert not hub.events("shell_closed", session=session)
    hub.emit("shell_close", {"session": session})
    hub.wait_for("shell_closed", session=session)
