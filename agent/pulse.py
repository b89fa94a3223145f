"""The pulse: the core's sign of life to `agent-watch`, on stdout, under supervisord alone.

Rules: ASCII lines, never blocking (a pulse that does not fit is skipped: the watch can miss a few);
sent by the core's own loop, and only while the link's threads are alive too, because it is exactly
their silence that must be seen.
Source: architecture "supervisord", "Four beats, four names".
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping

from workers.loop import Loop

EVERY_S = 2.0
WORD = b"JACKLINE-PULSE"


class Pulse:
    """Writes a line every two seconds.

    Args:
        loop: the core's.
        is_well: False while something that only a new process can mend is stuck.
        fd: stdout.
    """

    def __init__(self, loop: Loop, is_well: Callable[[], bool], fd: int = 1) -> None:
        self._loop = loop
        self._is_well = is_well
        self._fd = fd
        self._count = 0

    def start(self) -> None:
        """Begin; the first pulse comes at once, so that the watch knows to wait for the next."""
        if sys.platform != "win32":
            os.set_blocking(self._fd, False)
        self._beat()

    def _beat(self) -> None:
        self._loop.call_later(EVERY_S, self._beat)
        if not self._is_well():
            return
        self._count += 1
        try:
            os.write(self._fd, b"%s %d\n" % (WORD, self._count))
        except OSError:
            # Full: supervisord is busy or stopped. Broken: it has gone, and we live on.
            return


def is_wanted(environ: Mapping[str, str] = os.environ, fd: int = 1) -> bool:
    """Is this process supervisord's child, with a pipe for its stdout?"""
    if sys.platform == "win32" or environ.get("SUPERVISOR_ENABLED") != "1":
        return False
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
