"""How fast links are admitted: who is over the rate is given a turn, and told when it comes.

Rules: `rate` a second after a burst of one second's worth; a turn is kept for its client until
GRACE_S after it came, and is not paid for twice. Pure but for its clock.

Source: architecture "Numbers to beat" (a storm is spread by the hub, not by backoff).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

GRACE_S = 30.0
_EARLY_S = 0.1


class Pace:
    """See the module."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._next_s = 0.0
        self._turns: OrderedDict[str, float] = OrderedDict()

    def ask(self, client_id: str) -> float:
        """Ask for a client's turn; return 0 when it is now, else seconds until it comes."""
        now = self._clock()
        self._forget(now)
        turn = self._turns.get(client_id)
        if turn is None:
            turn = self._next_s = max(self._next_s + 1 / self._rate, now - 1.0)
            if turn > now:
                self._turns[client_id] = turn
        if turn > now + _EARLY_S:
            return turn - now
        self._turns.pop(client_id, None)
        return 0.0

    def _forget(self, now: float) -> None:
        while self._turns:
            client_id, turn = next(iter(self._turns.items()))
            if turn + GRACE_S > now:
                return
            del self._turns[client_id]
