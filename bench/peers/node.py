"""The minimal Node agent: bench/peers/node_agent."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench import processes
from bench.peers import Setup, end, write_config
from tests.doubles.node import fetched, node_program

AGENT = Path(__file__).parent / "node_agent"


class NodePeer:
    """One process; its shells are its children."""

    name = "Node agent"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._victims: dict[str, int] = {}

    def start(self, setup: Setup) -> None:
        self._victims = {}
        argv = [node_program(), str(fetched(AGENT) / "agent.js"), str(write_config(setup))]
        if setup.offers_credit:
            argv.append("--credit")
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def pids(self) -> list[int]:
        assert self._process is not None
        return [self._process.pid]

    def victim(self, session: str) -> int:
        assert self._process is not None
        children = processes.tree(self._process.pid)[1:]
        return self._victims.setdefault(
            session, next(pid for pid in children if pid not in self._victims.values())
        )
