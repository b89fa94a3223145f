"""When the next beat is due. Pure: no clock, no I/O.

Rules: after an answer the hub's interval, a tenth more or less; after a failure full jitter, up to
5, 10, 20 … 300 s, so that a hub that comes back is not met by all at once; what `Retry-After` asks
is waited for at least, and more at random, up to the hub's interval when it goes on: a hub that is
there and cannot store anything tells all of them the same. A revoked agent asks every ten minutes.

Source: contract part 2; fault cases C.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from wire import limits
from wire.problem import Code

FIRST_STEP_S = 5.0
MAX_STEP_S = 300.0
MAX_ASKED_S = 3600.0
SPREAD = 0.1


class Pace:
    """The waits of one heartbeat, in a row.

    Args:
        uniform: gives a number between two others; a test passes its own.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0
        self.interval_s = limits.BEAT_INTERVAL_S

    def after_answer(self, interval_s: float) -> float:
        """Give the wait after a beat that was answered; the hub says the interval."""
        self._failures = 0
        least, most = limits.BEAT_INTERVAL_MIN_S, limits.BEAT_INTERVAL_MAX_S
        self.interval_s = min(max(interval_s, least), most)
        return self.interval_s * self._uniform(1.0 - SPREAD, 1.0 + SPREAD)

    def after_failure(self, reason: str, retry_after_s: float | None = None) -> float:
        """Give the wait after a beat that was not."""
        whole = min(FIRST_STEP_S * 2.0 ** min(self._failures, 10), MAX_STEP_S)
        self._failures += 1
        if reason == Code.AGENT_REVOKED:
            return limits.REVOKED_WAIT_S
        if retry_after_s is not None:
            asked_s = min(retry_after_s, MAX_ASKED_S)
            spread_s = max(asked_s / 2.0, min(whole, self.interval_s) - asked_s)
            return asked_s + self._uniform(0.0, spread_s)
        return self._uniform(0.0, whole)
