"""The outbox's one thread: it commits in groups, and tells the core what became of each.

Rules: everything that was asked for while the last commit ran goes into the next one; removals wait
a little for an addition to share its fsync, because losing one only repeats a delivery; answers
come on the core thread; a damaged file is replaced and the group stored again; any other failure
(a full disk) is the core's to know.

Source: architecture "Outbox"; fault cases C "Agent disk full".
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agent.clock import wall_ms
from agent.errors import OutboxError
from agent.outbox_store import Draft, Store, is_damage
from workers.loop import Loop, now_s

_REMOVALS_WAIT_S = 0.5

OnAdded = Callable[[int | None], object]
OnFailed = Callable[[Exception], object]


class _Addition(NamedTuple):
    draft: Draft
    on_added: OnAdded
    on_failed: OnFailed


class _Removal(NamedTuple):
    event_id: str


class _Task(NamedTuple):
    run: Callable[[Store], Any]
    on_done: Callable[[Any], object] | None


_Asked = _Addition | _Removal | _Task


class OutboxWriter:
    """See the module.

    Args:
        path: the database.
        loop: the core thread's.
        on_trouble: called on the core thread with the error of a task that had no addition, and
            with each file that was moved aside.
    """

    def __init__(
        self, path: Path, loop: Loop, on_trouble: Callable[[Exception | Path], object]
    ) -> None:
        self._path = path
        self._loop = loop
        self._on_trouble = on_trouble
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._store: Store | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, draft: Draft, on_added: OnAdded, on_failed: OnFailed) -> None:
        """Store a final; `on_added` gets its seq, or None where its key is known already."""
        self._asked.put(_Addition(draft, on_added, on_failed))

    def remove(self, event_id: str) -> None:
        """Forget a final that has arrived, soon."""
        self._asked.put(_Removal(event_id))

    def submit(
        self, task: Callable[[Store], Any], on_done: Callable[[Any], object] | None = None
    ) -> None:
        """Run something on the store after what was asked before; then `on_done(its result)`."""
        self._asked.put(_Task(task, on_done))

    def close(self, timeout_s: float) -> None:
        """Finish what was asked for, for at most `timeout_s`."""
        self._asked.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        removals: list[str] = []
        due_s = 0.0
        is_running = True
        while is_running:
            group, is_running = self._gather(max(0.0, due_s - now_s()) if removals else None)
            if not removals:
                due_s = now_s() + _REMOVALS_WAIT_S
            removals += [one.event_id for one in group if isinstance(one, _Removal)]
            additions = [one for one in group if isinstance(one, _Addition)]
            if additions:
                self._add(additions)
            if removals and (additions or not is_running or now_s() >= due_s):
                self._try(_Task(partial(_remove, removals), None))
                removals = []
            for one in group:
                if isinstance(one, _Task):
                    self._try(one)
        if self._store is not None:
            self._store.close()

    def _gather(self, wait_s: float | None) -> tuple[list[_Asked], bool]:
        """Take everything that was asked for; False with the last of it."""
        group: list[_Asked] = []
        try:
            one = self._asked.get(timeout=wait_s)
            while one is not None:
                group.append(one)
                one = self._asked.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _add(self, additions: list[_Addition]) -> None:
        drafts = [one.draft for one in additions]
        try:
            seqs = self._with_store(lambda store: store.add(drafts, wall_ms()))
        except (sqlite3.Error, OutboxError, OSError) as error:
            for one in additions:
                self._loop.call_threadsafe(partial(one.on_failed, error))
            return
        for one, seq in zip(additions, seqs, strict=True):
            self._loop.call_threadsafe(partial(one.on_added, seq))

    def _try(self, task: _Task) -> None:
        try:
            result = self._with_store(task.run)
        except (sqlite3.Error, OutboxError, OSError) as error:
            self._loop.call_threadsafe(partial(self._on_trouble, error))
            result = None
        if task.on_done is not None:
            self._loop.call_threadsafe(partial(task.on_done, result))

    def _with_store(self, task: Callable[[Store], Any]) -> Any:
        """Run a task; once more on a new file where the old one turns out to be damaged."""
        try:
            return task(self._opened())
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
        if self._store is not None:
            self._store.close()
        self._store = self._opened(is_damaged=True)
        return task(self._store)

    def _opened(self, *, is_damaged: bool = False) -> Store:
        if self._store is None or is_damaged:
            self._store = Store(self._path, is_damaged=is_damaged)
            if self._store.moved_aside is not None:
                self._loop.call_threadsafe(partial(self._on_trouble, self._store.moved_aside))
        return self._store


def _remove(ids: list[str], store: Store) -> None:
    store.remove(ids)
