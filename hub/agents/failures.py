"""How often an address failed to connect: only failures count.

Rules: MAX_FAILURES in WINDOW_S; beyond, a failure is told `rate_limited` and when to come back, and
no row is written for it; a good signature never asks here. Addresses are forgotten, oldest first.

Source: fault cases A.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

MAX_FAILURES = 20
WINDOW_S = 60.0
MAX_ADDRESSES = 10_000


class Failures:
    """See the module."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, address: str) -> float | None:
        """Count one; return None while that is forgiven, else seconds to wait."""
        now = self._clock()
        stamps = self._of.setdefault(address, deque(maxlen=MAX_FAILURES + 1))
        self._of.move_to_end(address)
        if len(self._of) > MAX_ADDRESSES:
            self._of.popitem(last=False)
        while stamps and now - stamps[0] >= WINDOW_S:
            stamps.popleft()
        stamps.append(now)
        if len(stamps) <= MAX_FAILURES:
            return None
        return WINDOW_S - (now - stamps[0])
