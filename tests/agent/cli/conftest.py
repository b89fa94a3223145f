"""A control socket that answers like an agent, for the commands that ask one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.control import ControlServer, Reply
from agent.errors import ControlError
from workers.loop import Loop

WORKERS: list[dict[str, Any]] = [
    {
        "id": "shell-1",
        "kind": "shell",
        "state": "RUNNING",
        "pid": 7,
        "job": "session \x1b]0;evil\x07",
        "memory_bytes": 3_500_000,
        "beat_ago_s": 0.5,
        "age_s": 3700,
    },
    {"id": "telemetry-1", "kind": "telemetry", "state": "BACKOFF", "pid": None},
]
STATUS: dict[str, Any] = {
    "pid": 4242,
    "version": "0.1.0",
    "up_s": 90_000,
    "client_id": "web-1",
    "server_url": "https://hub.example",
    "link": {
        "state": "up",
        "since": "2026-01-01T00:00:00Z",
        "for_s": 65.0,
        "rtt_ms": 1.25,
        "reconnects": 3,
        "transport": "websocket",
        "last_refusal": {"reason": "auth_expired", "detail": "clock off by 360 s", "ago_s": 70},
    },
    "workers": WORKERS,
    "outbox": {"count": 2, "bytes": 4096, "oldest_s": 9, "parked": 1},
    "paused": False,
    "degraded": ["keys"],
    "log": {"file": "/var/log/jackline/agent.log", "dropped": 5},
    "warnings": [],
}


class StandIn:
    """What the commands asked, and the answers that a test may change."""

    def __init__(self, run_dir: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status = dict(STATUS)
        self.results: list[dict[str, Any]] = []
        self.loop = Loop()
        handlers = {
            "status": lambda _request, reply: reply(**self.status),
            "workers": lambda _request, reply: reply(workers=WORKERS),
            "worker_restart": self._act,
            "worker_stop": self._act,
            "outbox": lambda _request, reply: reply(
                items=[{"id": "e1", "event": "admin_result", "bytes": 900, "age_s": 3, "tries": 1}]
            ),
            "outbox_flush": lambda _request, reply: reply(count=1),
        }
        self.server = ControlServer(self.loop, run_dir / "control.sock", handlers)

    def _act(self, request: dict[str, Any], reply: Reply) -> None:
        self.asked.append(request)
        if not self.results:
            raise ControlError("not_found", "no such worker")
        reply(results=self.results)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("JACKLINE_RUN_DIR", str(tmp_path))
    stand_in = StandIn(tmp_path)
    stand_in.server.open()
    thread = threading.Thread(target=stand_in.loop.run, daemon=True)
    thread.start()
    yield stand_in
    stand_in.loop.call_threadsafe(stand_in.loop.stop)
    thread.join(10)
    stand_in.server.close()
    stand_in.loop.close()


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four directories of this test's own, and no agent."""
    for name in ("CONFIG", "STATE", "RUN", "LOG"):
        path = tmp_path / name.lower()
        path.mkdir(mode=0o700)
        monkeypatch.setenv(f"JACKLINE_{name}_DIR", str(path))
    monkeypatch.chdir(tmp_path)
    return tmp_path
