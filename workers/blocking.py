"""Make one call that may block for ever, without stopping the loop: a daemon thread, a deadline.

Rules: the answer comes back on the loop's thread, once, or not at all after `abandon`. A thread
that never returns is left behind: it cannot hold up the end of the process, and it must look at
`Errand.is_abandoned` before it changes anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from workers.loop import Loop

T = TypeVar("T")


class Errand(Generic[T]):
    """One call under way in a thread of its own.

    Args:
        loop: where `done` and `late` are called.
        call: what may block; it is given this errand, to see whether it was abandoned.
        done: takes the value, or the exception that the call raised.
        late: called instead of `done` when `deadline_s` has passed; the errand is abandoned then.
        deadline_s: seconds that the whole call may take.
    """

    def __init__(
        self,
        loop: Loop,
        call: Callable[[Errand[T]], T],
        done: Callable[[T | Exception], object],
        late: Callable[[], object],
        deadline_s: float,
    ) -> None:
        self._loop = loop
        self._call = call
        self._done = done
        self._late = late
        self._abandoned = threading.Event()
        self._returned = threading.Event()
        self._timer = loop.call_later(deadline_s, self._on_deadline)
        threading.Thread(target=self._run, daemon=True).start()

    def abandon(self) -> None:
        """Nobody waits any longer: neither `done` nor `late` will be called."""
        self._abandoned.set()
        self._timer.cancel()

    def is_abandoned(self) -> bool:
        """Has somebody given up on this call? Safe from any thread."""
        return self._abandoned.is_set()

    def has_returned(self) -> bool:
        """Has the call come back, however late?"""
        return self._returned.is_set()

    def _run(self) -> None:
        answer: T | Exception
        try:
            answer = self._call(self)
        except Exception as e:  # noqa: BLE001 - it travels to `done`, which decides
            answer = e
        self._returned.set()
        self._loop.call_threadsafe(lambda: self._deliver(answer))

    def _deliver(self, answer: T | Exception) -> None:
        if not self.is_abandoned():
            self.abandon()
            self._done(answer)

    def _on_deadline(self) -> None:
        self.abandon()
        self._late()
