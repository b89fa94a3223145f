"""An operator's side of a real hub: API, live socket, a counting program, a Node agent."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import socketio
from sqlalchemy import select

from hub.agents.models import Agent
from tests.doubles.agent_process import AgentProcess
from tests.doubles.hub_process import HubProcess
from tests.doubles.node import fetched, node_program
from tests.facilities import ROOT

NODE_AGENT = ROOT / "bench/peers/node_agent"
DEADLINE_S = 120.0
OPEN = ("queued", "sent", "running")


class Desk:
    """An operator's program: the API, and a socket on the console."""

    def __init__(self, hub: HubProcess, token: str) -> None:
        self.hub, self.token = hub, token
        self.events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.taken_by_hand = False
        self.socket: socketio.Client | None = None

    def ask(self, method: str, path: str, body: Any = None, want: int = 200) -> Any:
        status, answer = self.hub.request(method, path, self.token, body)
        assert status == want, (status, answer)
        return answer

    def run(self, asset_id: str, command: str, want: int = 201, **more: Any) -> Any:
        body = {"command": command, "timeout_sec": 30, **more}
        return self.ask("POST", f"/api/v1/agents/{asset_id}/admin", body, want)

    def job(self, job_id: str) -> Any:
        return self.ask("GET", f"/api/v1/jobs/{job_id}")

    def ended(self, job_id: str) -> Any:
        def look() -> Any:
            status, job = self.hub.get(f"/api/v1/jobs/{job_id}", self.token)
            return job if status == 200 and job["state"] not in OPEN else None

        return self.hub.until(look, DEADLINE_S)

    def until(self, job_id: str, state: str) -> Any:
        def look() -> Any:
            job = self.job(job_id)
            return job if job["state"] == state else None

        return self.hub.until(look, DEADLINE_S)

    def connect(self) -> None:
        """Open the live socket; take all output at once unless the test does by hand."""
        sio = self.socket = socketio.Client(reconnection=False, handle_sigint=False)

        def heard(event: str, payload: Any = None) -> None:
            self.events.put((event, payload))
            if event == "admin_output" and not self.taken_by_hand:
                taken = {"job_id": payload["job_id"], "bytes": payload["bytes"]}
                sio.emit("admin_taken", taken, namespace="/console")

        sio.on("*", heard, namespace="/console")
        sio.connect(
            self.hub.url,
            namespaces=["/console"],
            transports=["websocket"],
            auth={"token": self.token},
        )

    def call(self, event: str, payload: Any) -> Any:
        assert self.socket is not None
        return self.socket.call(event, payload, namespace="/console", timeout=30)

    def watched(self, job_id: str) -> tuple[bytes, bytes, Any]:
        """Return what a job printed, live, and how it ended."""
        streams = {"stdout": bytearray(), "stderr": bytearray()}
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            event, payload = self.events.get(timeout=DEADLINE_S)
            if event == "admin_output" and payload["job_id"] == job_id:
                assert payload["offset"] == len(streams[payload["stream"]])
                streams[payload["stream"]] += base64.b64decode(payload["data"])
            if event == "job" and payload["id"] == job_id and payload["state"] not in OPEN:
                return bytes(streams["stdout"]), bytes(streams["stderr"]), payload
        raise AssertionError("it never ended")

    def close(self) -> None:
        if self.socket is not None:
            self.socket.disconnect()


def asset_of(hub: HubProcess, client_id: str = "agent-1") -> str:
    return hub.read(
        lambda session: session.scalar(select(Agent.asset_id).where(Agent.client_id == client_id))
    )


def linked(agent: AgentProcess) -> None:
    agent.until(lambda: agent.ask("status")["link"]["state"] == "up", DEADLINE_S)


class Script:
    """A program that counts its runs, and waits where it is told to until its gate is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = folder / "gate"

    def __call__(self, body: str) -> str:
        path = self.folder / "job.sh"
        body = body.replace("WAIT", f"while ! test -e {self.gate}; do sleep 0.05; done")
        path.write_text(f"#!/bin/sh\necho run >> {self.folder}/runs\n{body}\n")
        path.chmod(0o755)
        return str(path)

    @property
    def runs(self) -> int:
        path = self.folder / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0


@contextlib.contextmanager
def node_agent(hub: HubProcess, folder: Path, client_id: str) -> Iterator[None]:
    """Run a foreign agent: no feature list, tokens echoed."""
    config = {
        "clientId": client_id,
        "serverUrl": hub.url,
        "authToken": hub.add_agent(client_id),
        "admin": {"enableShell": True, "allowedCommands": ["*"]},
    }
    file = folder / "node-agent.json"
    file.write_text(json.dumps(config))
    process = subprocess.Popen([node_program(), str(fetched(NODE_AGENT) / "agent.js"), str(file)])
    try:
        yield
    finally:
        process.kill()
        process.wait(DEADLINE_S)
