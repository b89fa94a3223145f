"""One agent on one state directory: a lock on an open file, not a pid file.

The kernel gives it back when the process ends, however it ends. The descriptor is not inherited.
Source: cases E "Start two agents on one state dir".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.errors import AlreadyRunningError, DirectoryError

FILE_NAME = "agent.lock"


class Lock:
    """A held lock; keep it as long as the agent lives."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, state_dir: Path) -> Lock:
        """Take the lock of a state directory.

        Raises:
            AlreadyRunningError: another agent holds it; exit 75.
            DirectoryError: the file cannot be opened; exit 78.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            fd = os.open(state_dir / FILE_NAME, flags, 0o600)
        except OSError as e:
            raise DirectoryError(f"{state_dir / FILE_NAME}: {e.strerror}") from e
        try:
            _lock(fd)
        except OSError as e:
            os.close(fd)
            raise AlreadyRunningError(f"already running on {state_dir}") from e
        return cls(fd)

    def release(self) -> None:
        """Give it back before the process ends."""
        os.close(self._fd)


def _lock(fd: int) -> None:
    if sys.platform == "win32":
        import msvcrt  # there and only there

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # not there

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
