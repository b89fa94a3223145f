"""How long to wait before the next attempt to connect. Pure: no clock, no I/O.

Rules: 1, 2, 4, 8, 16, 30, 30 … s, each wait uniform in [half, whole]; only a `hello_ack` starts the
row again. A refusal may set its own wait: the server's `retryAfterMs` replaces it, within bounds,
and does not climb the row; `auth_revoked` waits 10 minutes whatever else was said. While the clock
is unset the wait is 30 s: nothing signed now can be accepted before it is right.

Source: contract 1.1; fault cases A and J.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from wire import limits

REVOKED = "auth_revoked"
CLOCK_UNSET_WAIT_S = 30.0
# A wait that a server asks for is its own admission control; outside of this it is a mistake, and
# "at once", said to everybody, would have all of them at its door without a pause.
MIN_ASKED_WAIT_S, MAX_ASKED_WAIT_S = 0.5, 3600.0


class Backoff:
    """The waits of one link, in a row.

    Args:
        uniform: gives a number between two others; a test passes its own.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._step = 0

    def reset(self) -> None:
        """Start the row again: the server said `hello_ack`."""
        self._step = 0

    def next_s(
        self,
        reason: str = "",
        retry_after_ms: float | None = None,
        *,
        is_clock_unset: bool = False,
    ) -> float:
        """Give the seconds to wait before the next attempt.

        Args:
            reason: why the last attempt or link ended.
            retry_after_ms: what the refusing server asked for.
            is_clock_unset: the system's clock stands before 2020 and nothing corrects it.
        """
        if reason == REVOKED:
            return limits.REVOKED_WAIT_S
        if retry_after_ms is not None:
            return min(max(retry_after_ms / 1000.0, MIN_ASKED_WAIT_S), MAX_ASKED_WAIT_S)
        if is_clock_unset:
            return CLOCK_UNSET_WAIT_S
        steps = limits.BACKOFF_STEPS_S
        whole = steps[min(self._step, len(steps) - 1)]
        self._step += 1
        return self._uniform(whole * limits.BACKOFF_JITTER, whole)
