"""What has certainly arrived at a server that acknowledges nothing.

An Engine.IO server pings again only after our pong to its last ping, and what stands before that
pong on the connection has been read by then. So: finals written before a pong are confirmed by the
next ping.

Rules: the writer's thread calls `written` and `pong_written`, the reader's `ping_came`.

Source: architecture "Outbox".
"""

from __future__ import annotations

import threading


class Confirmations:
    """The finals of one connection, by their tickets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since_pong: list[int] = []
        self._before_pong: list[int] = []

    def written(self, ticket: int) -> None:
        """Note a final that is about to be written."""
        with self._lock:
            self._since_pong.append(ticket)

    def pong_written(self) -> None:
        """Note a pong that is about to be written."""
        with self._lock:
            self._before_pong += self._since_pong
            self._since_pong = []

    def ping_came(self) -> list[int]:
        """Return the finals that this ping confirms, each once."""
        with self._lock:
            confirmed, self._before_pong = self._before_pong, []
            return confirmed
