"""The processes and files of a demonstration: a hub, an agent, a small tree to back up.

Rules: both are the ordinary programs, started as anybody would, each with directories of its own
below one folder; nothing of this machine's own agent or hub is touched, and its variables are not
handed down. `close` ends both, their workers and their jobs, and removes the folder unless it was
given by name. Secrets travel by standard input.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hub.cli.client import Client
from hub.cli.login_file import Saved
from hub.errors import CliError

ADMIN = "admin"
READY_S = 45.0
END_S = 15.0
_POLICY = """\
# What this machine allows in the demonstration.
profile: full
admin:
  enableShell: true
  allowedCommands: [echo, uname, uptime, "crontab -l", "crontab -"]
  maxConcurrent: 4
backup:
  allowedSourceRoots: ["{root}"]
  allowedDestRoots: ["{root}"]
  allowedRestoreRoots: ["{root}"]
"""


def program() -> list[str]:
    """Return the argv of `jackline`, as it runs now."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    return [sys.executable, "-P", "-m", "workers.program"]


class Stage:
    """A hub and an agent in one folder.

    Args:
        folder: where; None: a temporary one, removed at the end.
        port: of the hub; None takes a free one.
    """

    def __init__(self, folder: Path | None, port: int | None) -> None:
        self.is_temporary = folder is None
        self.root = folder or Path(tempfile.mkdtemp(prefix="jl-demo-"))
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.password = secrets.token_urlsafe(12)
        self._hub: subprocess.Popen[bytes] | None = None
        self._agent: subprocess.Popen[bytes] | None = None
        self.client: Client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the hub ---------------------------------------------------------------------------------

    def start_hub(self) -> None:
        """Set a hub up, or take the one that the folder has, and wait until it serves."""
        if not (self.root / "hub").exists():
            self.run("hub", "init", *self._state(), "--admin", ADMIN, "--password-stdin",
                     stdin=f"{self.password}\n")  # fmt: skip
        self._hub = self._spawn("hub.log", "hub", "serve", *self._state(), "--port", str(self.port))
        nobody = Client(Saved(hub=self.url, token=""))
        self.until("the hub serves", lambda: _answers(nobody))

    def log_in(self) -> None:
        """Log in as the first admin."""
        body = {"user": ADMIN, "password": self.password, "label": "demo"}
        made = Client(Saved(hub=self.url, token="")).post("/api/v1/sessions", body)
        self.client = Client(Saved(hub=self.url, token=made["token"]))

    # -- the agent -------------------------------------------------------------------------------

    def enrol(self) -> None:
        """Let this machine in by a token, with a policy of its own."""
        token = self.run("hub", "token", "create", *self._state(), "--quiet")
        self.run("enroll", "--hub", self.url, "--token-stdin", "--profile", "full", stdin=token)
        policy = self.root / "agent" / "config" / "policy.yaml"
        policy.write_text(_POLICY.format(root=self.root), encoding="utf-8")

    def start_agent(self) -> None:
        """Start the agent as a process of its own."""
        self._agent = self._spawn("agent.log", "run")

    def kill_agent(self) -> None:
        """`kill -9`: its jobs go on without it."""
        assert self._agent is not None
        self._agent.kill()
        self._agent.wait(END_S)

    def machine(self) -> dict[str, Any]:
        """Return the machine, once it is online."""
        return self.until("the agent is online", self._online)  # type: ignore[no-any-return]

    def _online(self) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = self.client.get("/api/v1/agents")["items"]
        return next((one for one in found if one["presence"] == "online"), None)

    # -- both ------------------------------------------------------------------------------------

    def run(self, *words: str, stdin: str = "", ok: tuple[int, ...] = (0,)) -> str:
        """Run one `jackline` command to its end and return what it printed.

        Raises:
            CliError: it failed; with its own words.
        """
        done = subprocess.run(
            [*program(), *words],
            env=self._env(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=READY_S,
            check=False,
        )
        if done.returncode not in ok:
            said = (done.stderr or done.stdout).strip()
            raise CliError(f"jackline {' '.join(words[:2])}: {said}", done.returncode)
        return done.stdout

    def until(self, what: str, condition: Callable[[], Any]) -> Any:
        """Ask until something is true.

        Raises:
            CliError: it never is, or a process has ended.
        """
        deadline_s = time.monotonic() + READY_S
        while not (found := condition()):
            ended = [one for one in (self._hub, self._agent) if one and one.poll() is not None]
            if ended or time.monotonic() > deadline_s:
                raise CliError(f"it never came true that {what}; logs: {self.root}", 1)
            time.sleep(0.05)
        return found

    def wait(self) -> None:
        """Wait until somebody presses Ctrl-C, or the hub ends."""
        assert self._hub is not None
        with contextlib.suppress(KeyboardInterrupt):
            self._hub.wait()

    def close(self) -> None:
        """End everything and leave nothing behind."""
        if self._agent is not None:
            with contextlib.suppress(CliError, subprocess.TimeoutExpired):
                self.run("stop")
            _end(self._agent, signal.SIGTERM)
        if self._hub is not None:
            _end(self._hub, signal.SIGTERM)
        if self.is_temporary:
            shutil.rmtree(self.root, ignore_errors=True)

    def _spawn(self, log: str, *words: str) -> subprocess.Popen[bytes]:
        with open(self.root / log, "ab") as file:
            return subprocess.Popen(
                [*program(), *words],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C is ours: we end both in order
            )

    def _state(self) -> list[str]:
        return ["--state-dir", str(self.root / "hub")]

    def _env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "JACKLINE" not in name}
        return kept | {
            f"JACKLINE_{name.upper()}_DIR": str(self.root / "agent" / name)
            for name in ("config", "state", "run", "log")
        }


def _answers(client: Client) -> bool:
    try:
        client.download("/readyz")
    except CliError:
        return False
    return True


def _end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(first)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
