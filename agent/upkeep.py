"""What the core does for itself, now and then: notice that it stood still, give memory back.

Under a steady stream glibc keeps more and more free pieces in its arenas (2 MiB in five minutes,
while what is in use stays the same); giving them back takes a millisecond at most (measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.hardening import give_back, settle_memory
from workers.loop import Loop

if TYPE_CHECKING:
    from agent.log import Log

LAG_LOOK_S = 0.5
LAG_ALARM_S = 1.0
GIVE_BACK_S = 60.0


class Upkeep:
    """Keeps a loop's process in order; begin when everything is loaded."""

    def __init__(self, loop: Loop, log: Log) -> None:
        self._loop = loop
        self._log = log

    def start(self) -> None:
        """From now on; what is there now stays."""
        settle_memory()
        self._loop.call_later(GIVE_BACK_S, self._give_back)
        self._watch_lag(self._loop.clock())

    def _give_back(self) -> None:
        give_back()
        self._loop.call_later(GIVE_BACK_S, self._give_back)

    def _watch_lag(self, expected_s: float) -> None:
        """Say so when the core stood still: everything here is meant to be quick."""
        lag_s = self._loop.clock() - expected_s
        if lag_s > LAG_ALARM_S:
            self._log.warning("the core stood still", for_s=round(lag_s, 2))
        due_s = self._loop.clock() + LAG_LOOK_S
        self._loop.call_later(LAG_LOOK_S, lambda: self._watch_lag(due_s))
