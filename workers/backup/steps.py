"""A job written as one generator, driven by the worker's loop.

A generator yields what it waits for: None (let others have their turn), a number (seconds), or a
`Child` that it has started (resumed with its exit code when it has ended and its output was read).
Rules: one child at a time; `stop` closes the generator wherever it stands, so its `finally` parts
run; no callback of a stopped job comes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from workers.loop import Loop, Timer

T = TypeVar("T")


class Awaited(Protocol):
    """Something that ends by itself."""

    on_ended: Callable[[int], object]


# What a job is: yields what it waits for, is sent the outcome, returns its result.
Step = None | float | Awaited
Job = Generator[Step, Any, T]


class Steps:
    """Drives one job.

    Args:
        on_done: called once, with the result or with the exception that ended it; not after `stop`.
    """

    def __init__(
        self,
        loop: Loop,
        job: Job[Any],
        on_done: Callable[[Any, Exception | None], object],
    ) -> None:
        self._loop = loop
        self._job = job
        self._on_done: Callable[[Any, Exception | None], object] | None = on_done
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin in the loop's next turn."""
        self._loop.call_soon(lambda: self._go(None))

    def freeze(self) -> None:
        """Let nothing of the job go on; `stop` ends it."""
        self._on_done = None
        if self._timer is not None:
            self._timer.cancel()

    def stop(self) -> None:
        """End the job where it stands."""
        self.freeze()
        self._job.close()

    def _go(self, value: Any) -> None:
        if self._on_done is None:
            return
        try:
            awaited = self._job.send(value)
        except StopIteration as end:
            self._end(end.value, None)
        except Exception as e:  # noqa: BLE001 - whatever ended it is told to the owner
            self._end(None, e)
        else:
            self._wait(awaited)

    def _wait(self, awaited: Step) -> None:
        if awaited is None:
            self._loop.call_soon(lambda: self._go(None))
        elif isinstance(awaited, int | float):
            self._timer = self._loop.call_later(awaited, lambda: self._go(None))
        else:
            awaited.on_ended = self._go

    def _end(self, result: Any, error: Exception | None) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(result, error)
