"""Doubles of what a live session speaks with: a console, an agent's link, a clock."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from wire.features import ACK, BASE64, CREDIT, RESUME

OURS = frozenset({ACK, BASE64, CREDIT, RESUME})


class Screen:
    """A console that keeps what it is sent, and puts the output together by offset alone."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.data = bytearray()
        self.start: int | None = None
        self.gaps: list[tuple[int, int]] = []

    @property
    def end(self) -> int:
        return (self.start or 0) + len(self.data)

    def emit(self, event: str, payload: dict[str, Any]) -> None:
        self.events.append((event, payload))
        if event == "shell_output":
            self._output(payload)
        elif event == "shell_gap":
            if self.start is not None:
                assert payload["from"] == self.end
            self.gaps.append((payload["from"], payload["to"]))
            self.start, self.data = payload["to"], bytearray()

    def emit_json(self, event: str, payload: bytes) -> None:
        self.emit(event, json.loads(payload))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.events if name == event]

    def _output(self, payload: dict[str, Any]) -> None:
        raw = payload["data"].encode()
        if payload.get("encoding") == "base64":
            raw = base64.b64decode(payload["data"])
        if self.start is None:
            self.start = payload["offset"]
        assert payload["offset"] == self.end, f"{payload['offset']} after {self.end}"
        self.data += raw


@dataclass(eq=False)
class Peer:
    """A link; `features` None is a foreign agent."""

    features: frozenset[str] | None = OURS
    sent: list[Any] = field(default_factory=list)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s
