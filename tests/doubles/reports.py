"""What a hub double reports, and the record a test waits on.

Rules: reports are only appended, by one reader thread; a test reads them under the record's lock.
Times are CLOCK_MONOTONIC seconds taken in the hub's own process.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


class NotSeenError(AssertionError):
    """The double never reported what the test waited for."""


@dataclass(frozen=True)
class Connection:
    """One accepted CONNECT to /agents."""

    sid: str
    transport: str
    query: dict[str, str]
    auth: Json
    at: float


@dataclass(frozen=True)
class Received:
    """One event from the agent; `payload` is its first argument."""

    sid: str
    name: str
    args: list[Any]
    wants_ack: bool
    at: float

    @property
    def payload(self) -> Any:
        return self.args[0] if self.args else None

    def raw(self) -> bytes:
        """The bytes that `data` stands for, with the `base64` feature or without."""
        data = self.payload["data"]
        return (
            base64.b64decode(data)
            if self.payload.get("encoding") == "base64"
            else str(data).encode()
        )


class Record:
    """Everything a hub double has reported, across its restarts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reports: list[Json] = []

    def add(self, report: Json) -> None:
        with self._changed:
            self._reports.append(report)
            self._changed.notify_all()

    def mark(self) -> int:
        """Return the position that a later `since` starts from."""
        with self._changed:
            return len(self._reports)

    def of(self, kind: str, since: int = 0, until: int | None = None) -> list[Json]:
        with self._changed:
            return [report for report in self._reports[since:until] if report["report"] == kind]

    def wait(
        self, kind: str, matches: Callable[[Json], bool], timeout: float, since: int = 0
    ) -> Json:
        """Return the first matching report, waiting for it if need be.

        Args:
            kind: the report's kind.
            matches: told of each report of that kind once, in order.
            timeout: seconds; it only detects *never*.
            since: a position from mark(); reports before it do not count.
        Raises:
            NotSeenError: nothing matched in time; the message shows what came instead.
        """
        deadline = time.monotonic() + timeout
        position = since
        with self._changed:
            while True:
                for report in self._reports[position:]:
                    if report["report"] == kind and matches(report):
                        return report
                position = len(self._reports)
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._changed.wait(remaining):
                    if position == len(self._reports):
                        latest = "\n".join(str(report)[:300] for report in self._reports[-12:])
                        raise NotSeenError(f"no such {kind} in {timeout} s; latest:\n{latest}")


def as_connection(report: Json) -> Connection:
    return Connection(
        report["sid"], report["transport"], report["query"], report["auth"] or {}, report["at"]
    )


def as_received(report: Json) -> Received:
    return Received(
        report["sid"], report["event"], report["args"], report["wantsAck"], report["at"]
    )
