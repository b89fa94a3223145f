"""The one place of a process where dead children are collected.

A worker is a subreaper: besides its job's main child it inherits every daemon that the job left
behind, and each must be collected or stays a zombie. Rules: one Reaper per process and no other
`wait` beside it (no `subprocess`, no `Popen.wait`: they would take each other's statuses); every
call from the loop's thread; `watch` a child in the same callback that started it.
Source: waitpid(2), prctl(2) PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from workers.loop import Loop

assert sys.platform != "win32"


class PosixReaper:
    """Collects every dead child; tells whoever watches it, forgets the others."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[int], object]] = {}

    def attach(self, loop: Loop) -> None:
        """Collect whenever SIGCHLD comes; call it in the main thread.

        A handler in Python is reset to the default by exec, so no child inherits it.
        """
        signal.signal(signal.SIGCHLD, lambda _number, _frame: loop.call_threadsafe(self.collect))

    def watch(self, pid: int, on_exit: Callable[[int], object]) -> None:
        """Call `on_exit` once with the exit code of our child `pid`; -n when signal n ended it."""
        self._watched[pid] = on_exit

    def forget(self, pid: int) -> None:
        """Nobody asks for this child any more; it is still collected."""
        self._watched.pop(pid, None)

    def collect(self) -> int:
        """Collect all children that have ended; return how many. Never blocks."""
        collected = 0
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return collected
            if pid == 0:
                return collected
            collected += 1
            on_exit = self._watched.pop(pid, None)
            if on_exit is not None:
                on_exit(os.waitstatus_to_exitcode(status))
