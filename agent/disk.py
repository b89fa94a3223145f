"""The thread that writes job records, so that a hung disk never hangs the core thread.

Rules: tasks run in order; each result comes back as a call on the core thread; a task must not
touch anything but files.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from workers.loop import Loop

Task = Callable[[], object]
Done = Callable[[Exception | None], object]


class Disk:
    """One thread that runs file tasks in order."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._tasks: queue.SimpleQueue[tuple[Task, Done | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def submit(self, task: Task, on_done: Done | None = None) -> None:
        """Run `task` in the thread; then call `on_done(error or None)` on the core thread."""
        self._tasks.put((task, on_done))

    def close(self, timeout_s: float) -> None:
        """Finish what was submitted, for at most `timeout_s`."""
        self._tasks.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (entry := self._tasks.get()) is not None:
            task, on_done = entry
            error = _outcome(task)
            if on_done is not None:
                self._loop.call_threadsafe(_Call(on_done, error))


class _Call:
    __slots__ = ("_error", "_on_done")

    def __init__(self, on_done: Done, error: Exception | None) -> None:
        self._on_done = on_done
        self._error = error

    def __call__(self) -> None:
        self._on_done(self._error)


def _outcome(task: Task) -> Exception | None:
    try:
        task()
    except Exception as e:  # noqa: BLE001  # whoever asked decides
        return e
    return None
