"""How far a run is: percent that never falls, rate and time left that do not jump.

Pure; the caller brings the clock. No time left while scanning or without a rate.
Source: contract 1.5 `backup_progress`; product.md "Progress".
"""

from __future__ import annotations

import math

SMOOTH_S = 30.0
STEADY_S = 3.0


class Progress:
    """Bytes done of a total; `total_bytes` 0: not known yet."""

    def __init__(self, now_s: float, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self.rate: float | None = None
        self._sum = self._weight = 0.0
        self._percent = 0.0
        self._start_s = self._at_s = now_s
        self._moved = 0

    def move(self, now_s: float, done_bytes: int, moved_bytes: int) -> None:
        """Say that `done_bytes` of the total are done, `moved_bytes` of them really carried.

        The rate is an average that forgets with a time constant of 30 s; until then it is that of
        the time since the first byte.
        """
        self.done_bytes = max(self.done_bytes, done_bytes)
        passed = now_s - self._at_s
        weight = 1.0 - math.exp(-passed / SMOOTH_S)
        if weight <= 0:
            return
        if moved_bytes:
            moved = max(0, moved_bytes - self._moved)
            self._sum += weight * (moved / passed - self._sum)
            self._weight += weight * (1.0 - self._weight)
            self.rate = self._sum / self._weight
        self._at_s, self._moved = now_s, max(self._moved, moved_bytes)

    @property
    def percent(self) -> float:
        """0..100, never less than before; 100 only when the run has ended."""
        if self.total_bytes > 0:
            now = min(99.9, self.done_bytes * 100.0 / self.total_bytes)
            self._percent = max(self._percent, math.floor(now * 10) / 10)
        return self._percent

    @property
    def eta_s(self) -> float | None:
        """Seconds left; None while nobody can know."""
        if not self.rate or self.total_bytes <= 0 or self._at_s - self._start_s < STEADY_S:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.rate

    def end(self) -> None:
        """Everything is done."""
        self._percent = 100.0
