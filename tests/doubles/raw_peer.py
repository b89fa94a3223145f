"""A peer of a hub's socket that says exactly what a test tells it, well-formed or not.

Rules: one WebSocket; Engine.IO pings are answered while something is awaited; its source address
may be any of 127.0.0.0/8, so that what a hub counts by address belongs to one test.
"""

from __future__ import annotations

import itertools
import json
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from wire.signature import signed_query

DEADLINE_S = 120.0
_addresses = itertools.count(2)


def fresh_address() -> str:
    """Return a loopback address that no test had before."""
    number = next(_addresses)
    return f"127.1.{number // 250}.{number % 250 + 1}"


def query_of(client_id: str, token: str, shift_ms: int = 0) -> str:
    """Sign a connect query, `shift_ms` away from now."""
    ts = time.time_ns() // 1_000_000 + shift_ms
    return urlencode(signed_query(client_id, token, ts))


class RawPeer:
    """One WebSocket to a hub, past the Engine.IO opening.

    Args:
        port: of the hub on this machine.
        query: as it stands in the URL.
        address: where from; None takes a fresh one.
        headers: more of them, such as Origin.
    """

    def __init__(
        self,
        port: int,
        query: str = "",
        address: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket&{query}"
        self.address = address or fresh_address()
        self._open = ExitStack()
        self.ws: ClientConnection = self._open.enter_context(
            connect(
                url,
                source_address=(self.address, 0),
                additional_headers=headers or {},
                compression=None,
                open_timeout=DEADLINE_S,
                close_timeout=1,
                max_size=None,
                proxy=None,
                ping_interval=None,
            )
        )
        opening = self.receive()
        assert opening.startswith("0"), opening
        self.opening = json.loads(opening[1:])
        self.seen: list[str] = []

    def send(self, text: str | bytes) -> None:
        """Send one Engine.IO packet as it is."""
        self.ws.send(text)

    def receive(self, timeout_s: float = DEADLINE_S) -> str:
        """Return the next packet that is no ping."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            data = self.ws.recv(timeout=max(0.0, deadline_s - time.monotonic()))
            assert isinstance(data, str)
            if data != "2":
                return data
            self.ws.send("3")

    def join(self, namespace: str = "/agents", auth: Any = None) -> dict[str, Any]:
        """Ask to join; return the reply: `{"sid"}`, or the refusal."""
        body = "" if auth is None else json.dumps(auth)
        self.send(f"40{namespace},{body}")
        found: dict[str, Any] = self.until((f"40{namespace},", f"44{namespace},"))
        return found

    def emit(self, name: str, payload: Any, ack_id: int | None = None) -> None:
        number = "" if ack_id is None else str(ack_id)
        self.send(f"42/agents,{number}{json.dumps([name, payload])}")

    def event(self, name: str, timeout_s: float = DEADLINE_S) -> Any:
        """Wait for an event; return its payload."""
        return self.until((f'42/agents,["{name}",', f'42/console,["{name}",'), timeout_s)[1]

    def acknowledged(self, ack_id: int, timeout_s: float = DEADLINE_S) -> list[Any]:
        """Wait for an acknowledgement; return its arguments."""
        found: list[Any] = self.until((f"43/agents,{ack_id}[",), timeout_s)
        return found

    def until(self, prefixes: tuple[str, ...], timeout_s: float = DEADLINE_S) -> Any:
        """Wait for a packet that begins so; return the JSON in it. Others are kept in `seen`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            text = self.receive(max(0.0, deadline_s - time.monotonic()))
            self.seen.append(text)
            if text.startswith(prefixes):
                start = min(i for i in (text.find("["), text.find("{"), len(text)) if i >= 0)
                return json.loads(text[start:] or "null")

    def closed(self, timeout_s: float = DEADLINE_S) -> str:
        """Wait until the hub closes; return the reason that it gave."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while True:
                self.seen.append(self.receive(max(0.0, deadline_s - time.monotonic())))
        except ConnectionClosed as closed:
            return closed.rcvd.reason if closed.rcvd is not None else ""

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
