"""The disk thread without a thread: tasks run at once, their end is told in the next turn."""

from __future__ import annotations

from typing import Any, cast

from agent.disk import Disk, Done, Task
from workers.loop import Loop


class DiskDouble:
    """See `agent.disk.Disk`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    @property
    def as_disk(self) -> Disk:
        return cast(Disk, cast(Any, self))

    def submit(self, task: Task, on_done: Done | None = None) -> None:
        error: Exception | None = None
        try:
            task()
        except Exception as e:  # noqa: BLE001 - whoever asked decides
            error = e
        if on_done is not None:
            self._loop.call_soon(lambda: on_done(error))
