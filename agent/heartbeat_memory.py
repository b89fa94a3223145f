"""The heartbeat's store, asked from the core thread and answered on it.

Rules: every task runs on the disk thread, in order; trouble is told in the log once, until it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from agent.disk import Disk
from agent.heartbeat_store import HeartbeatStore
from agent.log import Log

T = TypeVar("T")


class Memory:
    """See the module."""

    def __init__(self, disk: Disk, store: HeartbeatStore, log: Log) -> None:
        self._disk = disk
        self._store = store
        self._log = log
        self._is_in_trouble = False

    def ask(self, task: Callable[[HeartbeatStore], T], done: Callable[[T], object]) -> None:
        """Run a task, then `done` with what it gave; a failure is told and nothing more."""
        self.try_(task, lambda found: done(found[0]) if found else None)

    def try_(self, task: Callable[[HeartbeatStore], T], done: Callable[[list[T]], object]) -> None:
        """Run a task, then `done` with a list of what it gave: empty after a failure."""
        found: list[T] = []

        def finished(error: Exception | None) -> None:
            if error is not None and not self._is_in_trouble:
                self._log.error("the heartbeat's store cannot be used", error=str(error))
            self._is_in_trouble = error is not None
            done(found)

        self._disk.submit(lambda: found.append(task(self._store)), finished)

    def close(self) -> None:
        """Close the store after what was asked before."""
        self._disk.submit(self._store.close)
