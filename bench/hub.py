"""The measuring server, seen from the bench. Source: bench/measuring_hub/hub.js."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.doubles.hubs import Hub, HubOptions
from tests.doubles.node import fetched, node_program

HERE = Path(__file__).parent
CLIENT_ID = "bench"
AUTH_TOKEN = "a token of the bench"


class MeasureError(Exception):
    """The measuring server could not take a figure; the message says why."""


class MeasuringHub(Hub):
    """Types, takes the times and counts; its clock is time.monotonic's."""

    speaks_features = True

    def __init__(self, features: tuple[str, ...] = ()) -> None:
        super().__init__(HubOptions(features=features))

    def argv(self) -> list[str]:
        return [node_program(), str(fetched(HERE / "measuring_hub") / "hub.js")]

    def measure(self, op: str, timeout: float = 60.0, **fields: Any) -> dict[str, Any]:
        """Take one figure.

        Args:
            op: a method of hub.js: open, type, bulk, echo, admin, close or count.
            timeout: seconds; it only detects *never*.

        Returns:
            the report's fields; times are seconds.

        Raises:
            MeasureError: the server says why it could not.
        """
        self._requests += 1
        request = self._requests
        mark = self.record.mark()
        self._send({"op": op, "id": request, **fields})
        report = self.record.wait("measured", lambda one: one["id"] == request, timeout, mark)
        if "error" in report:
            raise MeasureError(report["error"])
        return report

    def wait_linked(self, timeout: float = 30.0) -> None:
        """Wait until an agent has connected and sent its first stats."""
        self.record.wait("stats", lambda _: True, timeout)

    def wait_closed(self, session: str, timeout: float = 30.0) -> float:
        """Return when the session's `shell_closed` arrived."""
        report = self.record.wait("closed", lambda one: one["session"] == session, timeout)
        return float(report["closedAt"])
