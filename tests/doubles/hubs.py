"""Hub doubles: real Socket.IO servers in processes of their own, driven by a test.

Two implementations, one interface, so that one test class runs on both:
- NodeHub: a foreign Node server; contract 1.1-1.6 and 1.9, nothing of 1.7.
- ScriptedHub: python-socketio with every feature of 1.7 and a durable record of final events.

Rules: the child speaks JSON lines (options, then commands in; reports out); secrets cross on stdin,
never in its argv; a hub that was killed and started again keeps its port and its record.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from tests.doubles import node
from tests.doubles.reports import (
    Connection,
    Json,
    NotSeenError,
    Received,
    Record,
    as_connection,
    as_received,
)

HERE = Path(__file__).parent
# Without what the library takes along for clients, where it can: a third of a hub's start.
RUN_SCRIPTED_HUB = """
import runpy, sys
sys.modules["requests"] = None
runpy.run_module("tests.doubles.scripted_hub", run_name="__main__")
"""
ROOT = HERE.parents[1]
DEADLINE_S = 120.0  # for a machine that is busy with other things as well


@dataclass(frozen=True)
class HubOptions:
    """What is fixed for a hub's life. `modes` may be changed later, by Hub.set.

    Modes of both hubs:
        helloAck: "now" | "early" (before the CONNECT reply) | "never" | milliseconds of delay.
        answerPing: give a `pong` to the agent's `ping`.
        refuse: None, or the connect_error {"message", "data"?} that every connect gets.
        silent: give no namespace CONNECT reply.
        http: None, or {"status", "headers", "body"}: every request's answer (HTML, redirect, 403).
        websocketStatus: None, or the status that refuses each WebSocket while polling works.
        tally: names of events to count instead of reporting them (see Hub.tally).
    Modes of ScriptedHub alone:
        ack: "now" | "hold" (until Hub.release) | "never" | milliseconds of delay.
        die: None | "before_record" | "before_ack": SIGKILL itself at the next final event.
        credit: "auto" (what came in is granted again) | "manual" | bytes per second per session.
        shellAck: acknowledge each shell_output's end offset.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: str = "/socket.io"
    transports: tuple[str, ...] = ("polling", "websocket")
    max_payload: int = 1_000_000
    ping_interval_ms: int = 25_000
    ping_timeout_ms: int = 20_000
    ping_every_ms: int = 5_000
    tokens: dict[str, str] = field(default_factory=lambda: {"agent-1": "a secret of the tests"})
    cert_file: Path | None = None
    key_file: Path | None = None
    # A foreign server's hello_ack: {}, None (null) or absent (no argument at all).
    hello_payload: Json | None = field(default_factory=dict)
    hello_has_payload: bool = True
    # ScriptedHub: its side of 1.7, and the file that proves which final events were kept.
    features: tuple[str, ...] = ("ack", "credit", "resume", "stream", "base64", "workers")
    finals_file: Path | None = None
    modes: Json = field(default_factory=dict)

    def message(self, port: int) -> Json:
        """Return the child's first input line."""
        message: Json = {
            "host": self.host,
            "port": port,
            "path": self.path,
            "transports": list(self.transports),
            "maxPayload": self.max_payload,
            "pingIntervalMs": self.ping_interval_ms,
            "pingTimeoutMs": self.ping_timeout_ms,
            "pingEveryMs": self.ping_every_ms,
            "tokens": self.tokens,
            "certFile": str(self.cert_file) if self.cert_file else None,
            "keyFile": str(self.key_file) if self.key_file else None,
            "features": list(self.features),
            "finalsFile": str(self.finals_file) if self.finals_file else None,
            "modes": {"helloAck": "now", "answerPing": True, "tally": [], **self.modes},
        }
        if self.hello_has_payload:
            message["helloPayload"] = self.hello_payload
        return message


class Hub:
    """A running hub double. Use it as a context manager, or call start and stop."""

    speaks_features: ClassVar[bool]

    def __init__(self, options: HubOptions | None = None) -> None:
        self.options = options or HubOptions()
        self.record = Record()
        self.port = self.options.port
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._write_lock = threading.Lock()
        self._requests = 0

    # --- its process ---

    def argv(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> Self:
        """Start it, on the port it had before if it had one, and wait until it listens."""
        mark = self.record.mark()
        self._process = subprocess.Popen(
            self.argv(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="hub-reports", daemon=True
        )
        self._reader.start()
        self._send(self.options.message(self.port))
        listening = self.record.wait("listening", lambda _: True, DEADLINE_S, mark)
        self.port = listening["port"]
        return self

    def stop(self) -> None:
        """End it in an orderly way: its clients see a close."""
        if self._process is None:
            return
        self.resume()
        try:
            self._send({"op": "stop"})
            self._process.wait(DEADLINE_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
        self._gone()

    def kill(self) -> None:
        """`kill -9`: its clients see the TCP connection end."""
        if self._process is not None:
            self._process.kill()
            self._gone()

    def suspend(self) -> None:
        """SIGSTOP: TCP stays up, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_dead(self, timeout: float = DEADLINE_S) -> None:
        """Wait until a hub that is to die by itself (mode `die`) is gone."""
        assert self._process is not None
        self._process.wait(timeout)
        self._gone()

    def _gone(self) -> None:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.wait(DEADLINE_S)
        if self._reader is not None:
            self._reader.join(DEADLINE_S)
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- what the test tells it ---

    @property
    def url(self) -> str:
        """The agent's `serverUrl`."""
        scheme = "https" if self.options.cert_file else "http"
        return f"{scheme}://{self.options.host}:{self.port}"

    def emit(self, event: str, *args: Any, sid: str | None = None) -> None:
        """Send an event to one link, by default the newest."""
        self._send({"op": "emit", "event": event, "args": list(args), "sid": sid})

    def raw(self, message: str | bytes, sid: str | None = None) -> None:
        """Send one Engine.IO message as it is: text (`2/agents,[...]`), or a binary attachment."""
        if isinstance(message, str):
            self._send({"op": "raw", "text": message, "sid": sid})
        else:
            self._send({"op": "raw", "base64": base64.b64encode(message).decode(), "sid": sid})

    def drop(self, how: str = "close", sid: str | None = None) -> None:
        """End a link: "namespace" (Socket.IO DISCONNECT), "close" (Engine.IO), "abort" (TCP)."""
        self._ask({"op": "drop", "how": how, "sid": sid})

    def set(self, **modes: Any) -> None:
        """Change modes (see HubOptions); in force when this returns."""
        self._ask({"op": "set", "modes": modes})

    def tally(self) -> dict[str, Json]:
        """Return what mode `tally` counted: "<event> <session>" -> events, bytes, sha256, tail."""
        mark = self.record.mark()
        self._ask({"op": "tally"})
        sessions: dict[str, Json] = self.record.of("tally", mark)[-1]["sessions"]
        return sessions

    def wait_for_tally(self, key: str, count: int, timeout: float = DEADLINE_S) -> Json:
        """Ask until the tally of `key` holds `count` bytes; raises NotSeenError."""
        deadline = time.monotonic() + timeout
        while (found := self.tally().get(key, {"bytes": 0}))["bytes"] < count:
            if time.monotonic() > deadline:
                raise NotSeenError(f"{key}: {found['bytes']} of {count} bytes in {timeout} s")
            time.sleep(0.02)
        return found

    def _ask(self, command: Json) -> None:
        self._requests += 1
        request = self._requests
        mark = self.record.mark()
        self._send({**command, "id": request})
        self.record.wait("done", lambda report: report["id"] == request, DEADLINE_S, mark)

    def _send(self, message: Json) -> None:
        assert self._process is not None and self._process.stdin is not None, "the hub is not up"
        with self._write_lock:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            try:
                self.record.add(json.loads(line))
            except ValueError:  # a line cut short by kill -9
                continue

    # --- what it saw ---

    @property
    def connections(self) -> list[Connection]:
        return [as_connection(report) for report in self.record.of("connection")]

    def events(self, name: str | None = None, since: int = 0, **fields: Any) -> list[Received]:
        """Return the events received so far, of one name and with these payload fields."""
        received = [as_received(report) for report in self.record.of("event", since)]
        return [one for one in received if name in (None, one.name) and _has(one.payload, fields)]

    def wait_for(
        self,
        name: str,
        predicate: Callable[[Any], bool] | None = None,
        timeout: float = DEADLINE_S,
        since: int = 0,
        **fields: Any,
    ) -> Received:
        """Return the first event of that name whose payload has these fields and satisfies
        the predicate; raises NotSeenError like Record.wait."""

        def matches(report: Json) -> bool:
            payload = report["args"][0] if report["args"] else None
            return (
                report["event"] == name
                and _has(payload, fields)
                and (predicate is None or predicate(payload))
            )

        return as_received(self.record.wait("event", matches, timeout, since))

    def wait_for_connection(self, since: int = 0, timeout: float = DEADLINE_S) -> Connection:
        return as_connection(self.record.wait("connection", lambda _: True, timeout, since))

    def wait_for_disconnect(self, sid: str, timeout: float = DEADLINE_S) -> Json:
        return self.record.wait("disconnect", lambda report: report["sid"] == sid, timeout)

    def output(self, session: str) -> bytes:
        """Return all `shell_output` of a session so far, as raw bytes."""
        return b"".join(one.raw() for one in self.events("shell_output", session=session))

    def wait_for_output(self, session: str, text: str, timeout: float = DEADLINE_S) -> bytes:
        """Wait until a session's whole output holds `text`; return that output."""
        seen = bytearray()
        wanted = text.encode()

        def matches(report: Json) -> bool:
            received = as_received(report)
            if received.name != "shell_output" or received.payload.get("session") != session:
                return False
            start = max(0, len(seen) - len(wanted))
            seen.extend(received.raw())
            return seen.find(wanted, start) >= 0

        self.record.wait("event", matches, timeout)
        return bytes(seen)


def _has(payload: Any, fields: Json) -> bool:
    if not fields:
        return True
    return isinstance(payload, dict) and all(
        name in payload and payload[name] == value for name, value in fields.items()
    )


class NodeHub(Hub):
    """A foreign Socket.IO 4 server on Node."""

    speaks_features = False

    def argv(self) -> list[str]:
        return [node.node_program(), str(node.fetched(HERE / "node_hub") / "hub.js")]


class ScriptedHub(Hub):
    """The extended hub: python-socketio, every feature of 1.7."""

    def __init__(self, options: HubOptions | None = None) -> None:
        super().__init__(options)
        self._says_hello_at_once = self.options.modes.get("helloAck", "now") == "now"

    speaks_features = True

    def argv(self) -> list[str]:
        return [sys.executable, "-c", RUN_SCRIPTED_HUB]

    def wait_for_connection(self, since: int = 0, timeout: float = DEADLINE_S) -> Connection:
        """Wait until hello was said as well: what a test sends next, the agent hears after it."""
        connection = super().wait_for_connection(since, timeout)
        if self._says_hello_at_once:
            self.record.wait("hello", lambda it: bool(it["sid"] == connection.sid), timeout, since)
        return connection

    def set(self, **modes: Any) -> None:
        super().set(**modes)
        if "helloAck" in modes:
            self._says_hello_at_once = modes["helloAck"] == "now"

    def release(self) -> None:
        """Acknowledge every final event held back by mode `ack: "hold"`."""
        self._ask({"op": "release"})

    def finals(self) -> list[Json]:
        """Return the final events kept on disk: {"id", "event", "payload"}, in order of arrival.

        A line is on disk before its acknowledgement leaves; one cut short by kill -9 was not
        acknowledged and does not count.
        """
        path = self.options.finals_file
        if path is None or not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line]
