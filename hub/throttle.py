"""Counts of failures: who fails too often is told to wait, before anything costly is done.

Rules: only failures count, each under every key it belongs to (an address, an account); successes
never do. Kept in memory by the monotonic clock, bounded in number: a restart forgives everybody.
Source: fault cases A and B.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from hub.errors import RateLimitedError

MAX_KEYS = 50_000


class Failures:
    """At most `limit` failures of one key within `window_s` seconds, then none for as long."""

    def __init__(
        self, limit: int, window_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self.window_s = window_s
        self._clock = clock
        self._failed_s: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, key: str) -> None:
        """Refuse whoever has used the limit up.

        Raises:
            RateLimitedError: with the seconds until the next try.
        """
        wait_s = self.wait_s(key)
        if wait_s > 0:
            raise RateLimitedError(
                "too many failures; wait, then try again", retry_after_s=math.ceil(wait_s)
            )

    def wait_s(self, key: str) -> float:
        """Return how long a key must wait: 0 for most."""
        failed_s = self._failed_s.get(key)
        if failed_s is None:
            return 0
        if len(failed_s) < self.limit:
            return 0
        return max(0.0, failed_s[-1] + self.window_s - self._clock())

    def add(self, key: str) -> None:
        """Count a failure."""
        failed_s = self._failed_s.setdefault(key, deque(maxlen=self.limit))
        self._drop_old(failed_s)
        failed_s.append(self._clock())
        self._failed_s.move_to_end(key)
        if len(self._failed_s) > MAX_KEYS:
            self._failed_s.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Forget a key's failures."""
        self._failed_s.pop(key, None)

    def _drop_old(self, failed_s: deque[float]) -> None:
        while failed_s and failed_s[0] <= self._clock() - self.window_s:
            failed_s.popleft()
