"""The agents that are measured: one file each, one interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import processes
from bench.hub import AUTH_TOKEN, CLIENT_ID

# What a peer's sessions run: a plain shell, or `cat` after one line, or what users get by default.
SH = ("/bin/sh", ())
CAT = ("/bin/sh", ("-c", "echo ready; exec cat"))
BASH = ("/bin/bash", ("-l",))


@dataclass(frozen=True)
class Setup:
    """How an agent is started for one figure."""

    server_url: str
    directory: Path
    shell: tuple[str, tuple[str, ...]] = BASH
    offers_credit: bool = False


class Peer(Protocol):
    """An agent that speaks the wire contract."""

    name: str

    def start(self, setup: Setup) -> None:
        """Start it; it is linked once the hub says so."""

    def stop(self) -> None:
        """End it and everything it started."""

    def pids(self) -> list[int]:
        """Its own processes, without the shells and commands it runs for others."""

    def victim(self, session: str) -> int:
        """The process whose death must end this session."""


def write_config(setup: Setup) -> Path:
    """Write the agent-config.json that both agents read; return its path."""
    command, args = setup.shell
    path = setup.directory / "agent-config.json"
    fields = {
        "clientId": CLIENT_ID,
        "serverUrl": setup.server_url,
        "authToken": AUTH_TOKEN,
        "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 16},
        "shell": {"command": command, "args": list(args)},
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(fields))
    return path


def end(process: subprocess.Popen[bytes], signal_number: int = signal.SIGTERM) -> None:
    """End a process and what is left of its descendants, by pid."""
    left = processes.tree(process.pid)
    process.send_signal(signal_number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for pid in left[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + 5
    while any(processes.program(pid) for pid in left) and time.monotonic() < deadline:
        time.sleep(0.01)
