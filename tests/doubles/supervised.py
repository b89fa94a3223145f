"""A real supervisord with the agent under it, by the repository's own supervisor.conf.

One clock of that file is scaled: a start counts as made after one second instead of five, unless
a test changes that and more.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy, Transport

from agent import control_client
from agent.errors import ControlError
from agent.supervisor import ctlplugin
from tests.doubles.asking import pause
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.facilities import ROOT, SUPERVISOR_42

CLIENT, TOKEN = "agent-1", "a secret of the tests"
JACKLINE_BIN = Path(sys.executable).parent
DEADLINE_S = 120.0
# What a person waits for, measured from the moment of the SIGSTOP.
BACK_ONLINE_S = 30.0


def until(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> Any:
    begun_s = time.monotonic()
    while not (found := condition()):
        if time.monotonic() - begun_s > timeout_s:
            raise AssertionError(f"never: {what}")
        pause(begun_s)
    return found


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class SocketTransport(Transport):
    """XML-RPC over a Unix socket; supervisor's own transport leaves its sockets open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        self._connection = host, SocketConnection(self._path)  # which `close` closes
        return self._connection[1]


@dataclass
class Supervised:
    """A supervisord of a test's own, the agent under it, and the hub that the agent links to."""

    root: Path
    supervisor_bin: Path
    hub: ScriptedHub
    config: dict[str, Any] = field(default_factory=dict)  # more keys of agent-config.json
    changes: dict[str, str] = field(default_factory=lambda: {"startsecs=5\n": "startsecs=1\n"})

    def __post_init__(self) -> None:
        self.environ = {
            "PATH": f"{JACKLINE_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.root),
        }
        for name in ("CONFIG", "STATE", "RUN", "LOG"):
            self.environ[f"JACKLINE_{name}_DIR"] = str(self.root / name.lower())
        text = (ROOT / "supervisor.conf").read_text()
        for old, new in self.changes.items():
            assert old in text, old
            text = text.replace(old, new, 1)
        self.conf.write_text(text)
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
        until(lambda: self._ask("getState"), "supervisord answers")

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
        return str(self._ask("getProcessInfo", program)["statename"])

    def _ask(self, method: str, *arguments: str) -> Any:
        """As supervisorctl asks, without a process for each look; {} where nobody answers."""
        transport = SocketTransport(self.root / "supervisor.sock")
        with contextlib.suppress(OSError), ServerProxy("http://localhost", transport) as server:
            return getattr(server.supervisor, method)(*arguments)
        return {}

    def agent_pid(self) -> int:
        """Return the pid of the agent that runs, once one does: 0 would be a whole group's name."""
        return int(until(self._pid_told, "the agent has a pid"))

    def _pid_told(self) -> int:
        return int(self._ask("getProcessInfo", "agent")["pid"])

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
        return list(self._ask_agent("workers").get("workers", []))

    def link_up(self) -> bool:
        return bool(self._ask_agent("status").get("link", {}).get("state") == "up")

    def _ask_agent(self, request: str) -> dict[str, Any]:
        with contextlib.suppress(ControlError):
            return control_client.ask(request, timeout_s=DEADLINE_S, environ=self.environ)
        return {}

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


@contextlib.contextmanager
def running_supervisord(bin_dir: Path, **options: Any) -> Iterator[Supervised]:
    """Start one with the agent under it, and end everything of both afterwards.

    Args:
        bin_dir: of supervisor's programs.
        options: fields of Supervised.
    """
    # Socket paths are short, and pytest's directories are not.
    root = Path(tempfile.mkdtemp(prefix="jl-"))
    with ScriptedHub(HubOptions(tokens={CLIENT: TOKEN})) as hub:
        made = Supervised(root, bin_dir, hub, **options)
        try:
            made.start()
            yield made
        finally:
            made.close()
            shutil.rmtree(root, ignore_errors=True)


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


def await_link(hub: ScriptedHub, since: int) -> None:
    """Wait for a link made after that mark, on which both sides know of each other's features."""
    hub.record.wait("hello", lambda _: True, DEADLINE_S, since)


def runs(pid: int) -> bool:
    """Is there such a process, and is it more than an exit code that nobody has fetched yet?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def jobs_of(supervised: Supervised, count: int) -> dict[str, int]:
    """Return pid by id of the jobs, telemetry aside; empty while there are not `count` alive."""
    found = {w["id"]: w["pid"] for w in supervised.workers() if w["kind"] != "telemetry"}
    return found if len(found) == count and all(found.values()) else {}


def end_shell(hub: ScriptedHub, session: str) -> None:
    assert not hub.events("shell_closed", session=session)
    hub.emit("shell_close", {"session": session})
    hub.wait_for("shell_closed", timeout=DEADLINE_S, session=session)
