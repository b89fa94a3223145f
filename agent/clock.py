"""What time it is for a signature: the system's, or the server's where the system's is wrong.

Rules: the server's time is believed only when its certificate was verified; it is kept as a pair
with CLOCK_BOOTTIME, so that a later step of the wall clock changes nothing; a difference within
CORRECT_BEYOND_MS is left alone. No two signatures carry the same stamp: the server takes each once.

Source: contract 1.1; fault cases J.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from workers.loop import now_s

YEAR_2020_MS = 1_577_836_800_000
CORRECT_BEYOND_MS = 30_000


def wall_ms() -> int:
    """Return the system's wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class SigningClock:
    """The stamps of one agent's signatures.

    Args:
        wall: milliseconds since the epoch.
        steady: seconds, never going backwards.
    """

    def __init__(
        self, wall: Callable[[], int] = wall_ms, steady: Callable[[], float] = now_s
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._server: tuple[float, float] | None = None  # its milliseconds, our steady seconds
        self._last_ms = 0

    def system_ms(self) -> int:
        """Return the system's clock, right or wrong."""
        return self._wall()

    def learn(self, server_ts: float) -> int:
        """Take the time that a verified server told just now.

        Returns:
            milliseconds by which the system's clock is behind it (negative: ahead).
        """
        self._server = (server_ts, self._steady())
        return self.offset_ms()

    def offset_ms(self) -> int:
        """Return what to add to the system's clock; 0 while it is not known to be wrong."""
        if self._server is None:
            return 0
        told_ms, at_s = self._server
        offset = round(told_ms + (self._steady() - at_s) * 1000.0) - self._wall()
        return offset if abs(offset) > CORRECT_BEYOND_MS else 0

    def is_unset(self) -> bool:
        """Is the time plainly wrong (no battery behind the clock), with nothing to correct it?"""
        return self._wall() + self.offset_ms() < YEAR_2020_MS

    def stamp_ms(self) -> int:
        """Return the `ts` of a new signature, later than every one before it by this agent."""
        now = self._wall() + self.offset_ms()
        # A clock that was set back starts over; within a second it only moves on.
        if self._last_ms - 1000 <= now <= self._last_ms:
            now = self._last_ms + 1
        self._last_ms = now
        return now
