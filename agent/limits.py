"""The one place where concurrency and rates are counted, and where a place is given back once.

`admin.maxConcurrent` is one limit over shells and admin commands. A shell that finds no place is
refused; a command waits in line, at most its own timeout. A line has an end, too: whoever asks
faster than anything is done would take all memory. Rates count requests, refused ones too.
Descriptors are left over for what keeps the endpoint reachable.
Source: contract 1.3, 1.4; architecture "Fairness and pressure".
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable

from workers.loop import Loop, Timer

# For a new link, admins at the control socket, records, the outbox and the log.
RESERVED_DESCRIPTORS = 16
DESCRIPTORS_A_WORKER = 2  # its mailbox and its pidfd
MOST_WAITING = 1000
MOST_WAITING_BYTES = 8 << 20


class Place:
    """A held place; `release` is idempotent, so that no path can give it back twice."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def release(self) -> None:
        if self._slots is not None:
            slots, self._slots = self._slots, None
            slots._on_release()


class Waiting:
    """A request in line; `cancel` takes it out, if it has not been served yet."""

    def __init__(
        self, slots: Slots, on_place: Callable[[Place], object], timer: Timer, size: int
    ) -> None:
        self._slots = slots
        self._on_place = on_place
        self._timer = timer
        self.size = size

    def cancel(self) -> None:
        if self._slots._leave(self):
            self._timer.cancel()

    def _serve(self, place: Place) -> None:
        self._timer.cancel()
        self._on_place(place)


class Slots:
    """`limit` places, a first-come line for those who wait."""

    def __init__(self, loop: Loop, limit: int) -> None:
        self._loop = loop
        self.limit = limit
        self.taken = 0
        self._line: deque[Waiting] = deque()
        self._line_bytes = 0

    @property
    def waiting(self) -> int:
        """How many are in line."""
        return len(self._line)

    def take(self) -> Place | None:
        """Return a place, or None when all are taken or somebody waits already."""
        if self.taken >= self.limit or self._line:
            return None
        self.taken += 1
        return Place(self)

    def force(self) -> Place:
        """Return a place beyond the limit: for a job that was adopted, not admitted."""
        self.taken += 1
        return Place(self)

    def may_wait(self, size: int) -> bool:
        """Is there room in the line for a request of so many bytes?"""
        return len(self._line) < MOST_WAITING and self._line_bytes + size <= MOST_WAITING_BYTES

    def wait(
        self,
        timeout_s: float,
        on_place: Callable[[Place], object],
        on_timeout: Callable[[], object],
        size: int = 0,
    ) -> Waiting:
        """Stand in line: exactly one of the callbacks comes, unless the Waiting is cancelled.

        Args:
            size: what the request holds in memory meanwhile, in bytes; `may_wait` was asked.
        """

        def timed_out() -> None:
            if self._leave(waiting):
                on_timeout()

        waiting = Waiting(self, on_place, self._loop.call_later(timeout_s, timed_out), size)
        self._line.append(waiting)
        self._line_bytes += size
        self._loop.call_soon(self._serve)
        return waiting

    def _on_release(self) -> None:
        self.taken -= 1
        self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        while self._line and self.taken < self.limit:
            self.taken += 1
            waiting = self._line.popleft()
            self._line_bytes -= waiting.size
            waiting._serve(Place(self))

    def _leave(self, waiting: Waiting) -> bool:
        """Take somebody out of the line; False: they are not in it any more."""
        try:
            self._line.remove(waiting)
        except ValueError:
            return False
        self._line_bytes -= waiting.size
        return True


class RateLimit:
    """At most `most` requests in a sliding window of `window_s`; `most` 0 is no limit."""

    def __init__(self, clock: Callable[[], float], most: int, window_s: float) -> None:
        self._clock = clock
        self._most = most
        self._window_s = window_s
        self._times: deque[float] = deque(maxlen=max(most, 1))

    def admits(self) -> bool:
        """Count one request; False: it is one too many."""
        if self._most <= 0:
            return True
        now = self._clock()
        if len(self._times) == self._most and now - self._times[0] < self._window_s:
            return False
        self._times.append(now)
        return True


class TokenBucket:
    """`rate` per second with bursts of `burst`: for control requests of a link."""

    def __init__(self, clock: Callable[[], float], rate: float, burst: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = clock()

    def admits(self) -> bool:
        """Take one token, if there is one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def has_descriptors_for_another(launching: int) -> bool:
    """Is there room for one more worker beside `launching` that have not opened theirs yet?

    The lowest free descriptor tells how many are in use at least.
    """
    if sys.platform == "win32":
        return True
    import resource

    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return False
    os.close(lowest)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return True
    needed = (launching + 1) * DESCRIPTORS_A_WORKER + RESERVED_DESCRIPTORS
    return lowest + needed <= limit
