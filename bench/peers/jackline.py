"""The installed `jackline`, beside the interpreter that runs the bench."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench import processes
from bench.peers import Setup, end, write_config

PROGRAM = Path(sys.executable).parent / "jackline"


class JacklinePeer:
    """The agent, its zygote and its workers."""

    name = "Jackline"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    def start(self, setup: Setup) -> None:
        directories = {
            f"JACKLINE_{name}_DIR": str(setup.directory / name.lower())
            for name in ("CONFIG", "STATE", "RUN", "LOG")
        }
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
        self._environment = {**kept, **directories}
        for path in directories.values():
            Path(path).mkdir(mode=0o700, exist_ok=True)
        self._process = subprocess.Popen(
            [PROGRAM, "run", "--config", write_config(setup)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        if self._process is None:
            return
        subprocess.run([PROGRAM, "stop"], env=self._environment, timeout=30, check=False)
        end(self._process)
        self._process = None

    def pids(self) -> list[int]:
        assert self._process is not None
        own = processes.program(self._process.pid)
        return [pid for pid in processes.tree(self._process.pid) if processes.program(pid) == own]

    def victim(self, session: str) -> int:
        listing = subprocess.run(
            [PROGRAM, "worker", "list", "--json"],
            env=self._environment,
            timeout=30,
            check=True,
            stdout=subprocess.PIPE,
        )
        text = listing.stdout.decode()
        return next(
            int(worker["pid"])
            for worker in json.loads(text)
            if worker["kind"] == "shell" and session in json.dumps(worker)
        )
