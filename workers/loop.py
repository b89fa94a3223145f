"""The selector loop: readiness, timers and calls from other threads, in one thread.

The agent's core thread and every worker run one of these. Rules: callbacks never block; only
`call_threadsafe` may be called from another thread; time is CLOCK_BOOTTIME where the system has
it (a suspended machine's timers are late, never lost), else monotonic. Never the wall clock.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
# A selector takes no more than its milliseconds have room for: with epoll 24 days.
MOST_WAIT_S = 86_400.0

Callback = Callable[[], object]


def now_s() -> float:
    """Return seconds since boot, suspend included where the system can tell."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Timer:
    """One pending `call_later`; `cancel` is idempotent."""

    __slots__ = ("callback", "due_s")

    def __init__(self, due_s: float, callback: Callback) -> None:
        self.due_s = due_s
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """A selector with timers.

    Args:
        on_error: called with the exception of a callback that raised; the loop goes on. Without
            it the exception ends `run`.
        clock: seconds, never going backwards; a test passes its own.
    """

    def __init__(
        self,
        on_error: Callable[[Exception], None] | None = None,
        clock: Callable[[], float] = now_s,
    ) -> None:
        self.clock = clock
        self._on_error = on_error
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callback] = deque()
        self._wake_sent = False
        self._running = False
        self._interests: dict[int, list[Callback | None]] = {}
        # Sockets, for Windows cannot wait for a pipe.
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self.set_reader(self._wake_r.fileno(), self._drain_wakeups)

    def set_reader(self, fd: int, callback: Callback | None) -> None:
        """Call `callback` whenever `fd` is readable; None ends that."""
        self._set_interest(fd, 0, callback)

    def set_writer(self, fd: int, callback: Callback | None) -> None:
        """Call `callback` whenever `fd` is writable; None ends that."""
        self._set_interest(fd, 1, callback)

    def forget(self, fd: int) -> None:
        """Drop every interest in `fd`; call it before closing the descriptor."""
        if self._interests.pop(fd, None) is not None:
            self._selector.unregister(fd)

    def _set_interest(self, fd: int, index: int, callback: Callback | None) -> None:
        pair = self._interests.get(fd, None)
        if pair is None:
            if callback is not None:
                added: list[Callback | None] = [None, None]
                added[index] = callback
                self._selector.register(fd, WRITE if index else READ, added)
                self._interests[fd] = added  # only now: what epoll refuses must leave no trace
            return
        before = self._mask(pair)
        pair[index] = callback
        after = self._mask(pair)
        if after == before:
            return
        if after:
            self._selector.modify(fd, after, pair)
        else:
            self.forget(fd)

    @staticmethod
    def _mask(pair: list[Callback | None]) -> int:
        return (READ if pair[0] else 0) | (WRITE if pair[1] else 0)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call `callback` once after `delay_s` seconds."""
        timer = Timer(self.clock() + max(0.0, delay_s), callback)
        heapq.heappush(self._timers, (timer.due_s, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callback) -> None:
        """Call `callback` in the next turn of this thread's loop."""
        self._soon.append(callback)

    def call_threadsafe(self, callback: Callback) -> None:
        """Like `call_soon`, from any thread (and from a signal handler)."""
        self._soon.append(callback)
        if not self._wake_sent:
            self._wake_sent = True
            try:
                self._wake_w.send(b"\0")
            except (BlockingIOError, OSError):
                # Full: the loop is awake anyway. Closed: nobody is left to wake.
                return

    def run(self) -> None:
        """Run callbacks until `stop`."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """Let `run` return after the current turn; only from this thread."""
        self._running = False

    def abandon(self) -> None:
        """In a forked child: let go of the parent's loop without touching what it watches.

        An epoll instance is shared with the parent: to unregister here would unregister there.
        """
        self._interests.clear()
        self.close()

    def close(self) -> None:
        """Release the loop's own descriptors."""
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def turn(self, max_wait_s: float | None = None) -> None:
        """Wait for something to do, at most `max_wait_s`, and do it."""
        for key, mask in self._selector.select(self._wait_s(max_wait_s)):
            pair: list[Callback | None] = key.data
            # A callback may have dropped a later descriptor of this batch.
            if mask & READ and pair[0] is not None and self._interests.get(key.fd) is pair:
                self._call(pair[0])
            if mask & WRITE and pair[1] is not None and self._interests.get(key.fd) is pair:
                self._call(pair[1])
        self._run_timers()
        for _ in range(len(self._soon)):
            self._call(self._soon.popleft())

    def _wait_s(self, max_wait_s: float | None) -> float | None:
        if self._soon:
            return 0.0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return max_wait_s
        wait = min(max(0.0, self._timers[0][0] - self.clock()), MOST_WAIT_S)
        return wait if max_wait_s is None else min(wait, max_wait_s)

    def _run_timers(self) -> None:
        now = self.clock()
        newest = next(self._order)
        # A timer that sets itself anew waits for the next turn, even where the clock is coarse.
        while self._timers and self._timers[0][0] <= now and self._timers[0][1] < newest:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                self._call(callback)

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as e:
            if self._on_error is None:
                raise
            self._on_error(e)

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_r.recv(4096)
        # Only now: whoever calls between the read and here finds its callback run in this turn.
        self._wake_sent = False
