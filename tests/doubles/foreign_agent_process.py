"""A foreign agent as a process: Node's socket.io-client, told by a test what to send.

Rules: its secret crosses on stdin; whatever came is kept, in order.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import IO, Any

from tests.doubles import node
from tests.doubles.reports import Json, Record
from tests.facilities import ROOT

FOLDER = ROOT / "tests" / "doubles" / "foreign_agent"
DEADLINE_S = 120.0


class ForeignAgent:
    """See the module. `options` are socket.io-client's; none of them: polling first."""

    def __init__(self, url: str, client_id: str, token: str, **options: Any) -> None:
        self.record = Record()
        self._process = subprocess.Popen(
            [node.node_program(), str(node.fetched(FOLDER) / "agent.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()
        self._send({"url": url, "clientId": client_id, "authToken": token, "options": options})

    def emit(self, event: str, payload: Any) -> None:
        self._send({"event": event, "payload": payload})

    def wait(self, kind: str, since: int = 0) -> Json:
        """Wait for a report of a kind: open, connect, upgrade, connect_error, disconnect."""
        return self.record.wait(kind, lambda _: True, DEADLINE_S, since)

    def event(self, name: str, since: int = 0) -> Json:
        """Wait for an event; return its report, with `payload` and `bytes`."""
        return self.record.wait("event", lambda one: one["event"] == name, DEADLINE_S, since)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        self._process.stdout.close()

    def _send(self, message: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self.record.add(json.loads(line))


@contextlib.contextmanager
def foreign_agent(url: str, client_id: str, token: str, **options: Any) -> Iterator[ForeignAgent]:
    """Start one, and end it afterwards."""
    agent = ForeignAgent(url, client_id, token, **options)
    try:
        yield agent
    finally:
        agent.close()
