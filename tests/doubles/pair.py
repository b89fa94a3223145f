"""An extended hub and an agent that speak with each other, and the words a test needs for it.

Rule: what came in is judged by its offsets, so that a byte that is lost, doubled or out of place
fails the test that looks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.reports import Connection, Json, Received

NAMES = itertools.count(1)


@dataclass
class Pair:
    """One hub, one agent."""

    hub: ScriptedHub
    agent: AgentProcess

    def name(self) -> str:
        return f"name-{os.getpid()}-{next(NAMES)}"

    def shell(self) -> str:
        """Open a shell that is ready and silent: no prompt, no echo."""
        session = self.name()
        self.hub.emit("shell_start", {"session": session})
        self.type(session, "PS1=; PS2=; stty -echo; echo rea''dy\n")
        self.hub.wait_for_output(session, "ready\r\n")
        return session

    def type(self, session: str, text: str) -> None:
        self.hub.emit("shell_input", {"session": session, "data": text})

    def begin(self, command: str, job_id: str | None = None, **more: Any) -> str:
        """Ask for a command under a jobId; does not wait for it."""
        job_id = job_id or self.name()
        self.hub.emit("admin_run", {"jobId": job_id, "cmd": {"command": command, **more}})
        return job_id

    def result(self, job_id: str, timeout: float = 120.0) -> Json:
        payload = self.hub.wait_for("admin_result", jobId=job_id, timeout=timeout).payload
        assert isinstance(payload, dict)
        return payload

    def round_trip(self) -> None:
        """Return when the agent has handled all that was said before, and its answers are here."""
        stamp = next(NAMES)
        self.hub.emit("ping", {"ts": stamp})
        self.hub.wait_for("pong", ts=stamp)

    def reconnected(self, how: str = "abort") -> Connection:
        """Cut the link; return the next one, once the agent has handled its `hello_ack`."""
        mark = self.hub.record.mark()
        self.hub.drop(how)
        connection = self.hub.wait_for_connection(since=mark)
        self.hub.wait_for("stats", since=mark)
        return connection

    def wait_for_bytes(self, event: str, size: int, timeout: float = 120.0, **fields: Any) -> None:
        """Wait until events with these fields have carried `size` bytes of raw data."""
        seen = 0

        def enough(report: Json) -> bool:
            nonlocal seen
            payload = report["args"][0] if report["args"] else {}
            if report["event"] == event and fields.items() <= payload.items():
                seen += len(_received(report).raw())
            return seen >= size

        self.hub.record.wait("event", enough, timeout)

    def streamed(self, job_id: str, stream: str) -> list[Received]:
        return self.hub.events("admin_output", jobId=job_id, stream=stream)


def joined(events: Iterable[Received], start: int = 0) -> bytes:
    """Put output together by its offsets; fail on a hole, or where two disagree on a byte."""
    whole = bytearray()
    for one in events:
        at, data = one.payload["offset"] - start, one.raw()
        assert 0 <= at <= len(whole), f"a hole before {one.payload['offset']}"
        known = whole[at : at + len(data)]
        assert data[: len(known)] == known, f"another text at {one.payload['offset']}"
        whole += data[len(known) :]
    return bytes(whole)


@contextlib.contextmanager
def connected(
    config: Json | None = None,
    modes: Json | None = None,
    env: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[Pair]:
    """Start both and wait until the agent has heard `hello_ack`."""
    hub_options = HubOptions(modes=modes or {}, ping_every_ms=0, **options)
    defaults = {"statsIntervalSec": 600}
    with (
        ScriptedHub(hub_options) as hub,
        running_agent(hub.url, {**defaults, **(config or {})}, env) as agent,
    ):
        hub.wait_for_connection(timeout=20)
        if (modes or {}).get("helloAck", "now") == "now":
            hub.wait_for("stats")  # sent at once after hello_ack
        yield Pair(hub, agent)


def _received(report: Json) -> Received:
    return Received(report["sid"], report["event"], report["args"], False, report["at"])
