"""A real agent: `jackline run` in a process of its own, with directories of its own.

Rules: leaves nothing behind, however the test ends; socket paths are limited, so the directories
are short; the environment is built, not inherited.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent import control_client
from agent.errors import ControlError
from tests.doubles import vitals
from tests.doubles.asking import pause

# A person's start-up files are slow, and what is killed in the middle of them leaves its locks.
SHELL = {"command": "/bin/bash", "args": ["--noprofile", "--norc"]}
JACKLINE = [sys.executable, "-P", "-m", "workers.program"]
DEADLINE_S = 120.0


class AgentProcess:
    """See the module.

    Args:
        server_url: of a hub double.
        config: more keys of agent-config.json; a `shell` without a command starts a bare bash.
        env: more variables.
        prefix: argv that starts the agent, e.g. `["unshare", "-m"]`.
    """

    def __init__(
        self,
        server_url: str,
        config: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        prefix: list[str] | None = None,
    ) -> None:
        self.prefix = prefix or []
        self.root = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))
        for name in ("config", "state", "run", "log"):
            (self.root / name).mkdir(mode=0o700)
        self.config_file = self.root / "config" / "agent-config.json"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/root"),
            "LANG": "C.UTF-8",
            **{
                f"JACKLINE_{name.upper()}_DIR": str(self.root / name)
                for name in ("config", "state", "run", "log")
            },
            **(env or {}),
        }
        self.config: dict[str, Any] = {
            "clientId": "agent-1",
            "authToken": "a secret of the tests",
            "serverUrl": server_url,
            "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 8},
            **(config or {}),
        }
        self.config["shell"] = {**SHELL, **self.config.get("shell", {})}
        self.program = list(JACKLINE)  # a test may run it by another
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    def start(self, *more: str) -> AgentProcess:
        """Start it; does not wait for the link."""
        self.config_file.write_text(json.dumps(self.config))
        self.config_file.chmod(0o600)
        stderr = open(self.root / "stderr", "ab")  # noqa: SIM115 - the child's for its whole life
        with stderr:
            self.process = subprocess.Popen(
                [*self.prefix, *self.program, "run", "--config", str(self.config_file), *more],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        return self

    def kill(self) -> None:
        """`kill -9`: the jobs live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def terminate(self) -> int:
        """SIGTERM, as supervisors do: the jobs live on."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def command(self, *words: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a `jackline` command in the agent's environment."""
        return subprocess.run(
            [*JACKLINE, *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Ask the control socket."""
        return control_client.ask(request, timeout_s=20.0, environ=self.env, **fields)

    def workers(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of `worker list`."""
        return [w for w in self.ask("workers")["workers"] if kind in (None, w["kind"])]

    def until(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """Wait until something is true that only asking tells; fail when it never comes."""
        begun_s = time.monotonic()
        while True:
            with contextlib.suppress(ControlError):
                found = condition()
                if found:
                    return found
            if time.monotonic() - begun_s > timeout_s:
                raise AssertionError(f"never came true; the log's end:\n{self.log_tail()}")
            pause(begun_s)

    def log_records(self) -> list[dict[str, Any]]:
        """Return the records of its log."""
        path = self.root / "log" / "agent.log"
        if not path.exists():
            return []
        lines = path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def log_tail(self) -> str:
        stderr = (self.root / "stderr").read_text(errors="replace")[-2000:]
        return "\n".join(map(str, self.log_records()[-12:])) + "\n" + stderr

    def processes(self) -> list[int]:
        """Return every process that works for this agent's directories, the agent included."""
        mark = str(self.root).encode()
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{name}/cmdline").read_bytes()
                if mark in argv and not _is_zombie(int(name)):
                    found.append(int(name))
        return found

    def job_processes(self) -> list[int]:
        """Return every process of its jobs, known by the mark of each: nobody else's."""
        jobs = [path.stem for path in (self.state_dir / "jobs").glob("*.job")]
        return [pid for job in jobs for pid in vitals.marked(f"JACKLINE_JOB={job}")]

    def close(self) -> None:
        """End everything of it."""
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            self.command("stop", "--timeout", "15", timeout=20.0)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def running_agent(
    server_url: str,
    config: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
    prefix: list[str] | None = None,
) -> Iterator[AgentProcess]:
    """Start an agent, and end everything of it afterwards."""
    agent = AgentProcess(server_url, config, env, prefix)
    try:
        yield agent.start()
    finally:
        agent.close()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
