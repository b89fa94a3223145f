"""One backup at a time for each destination, held by the kernel, described by the file.

The lock is an flock: whatever ends its holder frees it. The file says who holds it (pid, start
time, boot id, plan); a description that its writer did not take back is a stale one, and reported.
Source: docs/reference/backup.rst; flock(2).
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec

from workers import processes
from workers.errors import BackupError


class Lock:
    """A held lock. `stale`: who held it before and did not end well, or None."""

    def __init__(self, fd: int, stale: dict[str, Any] | None) -> None:
        self._fd = fd
        self.stale = stale

    def release(self) -> None:
        """Give it back."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def take(path: Path, plan_id: str) -> Lock:
    """Take the lock at `path`, whose directory exists.

    Raises:
        BackupError: `already_running`, with who holds it; else what the system refused.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise BackupError("bad_dest", f"{path}: cannot be locked: {e.strerror}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        holder = _read(fd) or {}
        os.close(fd)
        raise BackupError(
            "already_running",
            f"another backup writes there: plan {holder.get('plan')}, pid {holder.get('pid')}",
        ) from e
    stale = _read(fd)
    me = {
        "pid": os.getpid(),
        "startTime": processes.start_time(os.getpid()) or 0,
        "bootId": processes.boot_id() or "",
        "plan": plan_id,
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(me), 0)
    return Lock(fd, stale)


def _read(fd: int) -> dict[str, Any] | None:
    try:
        said = msgspec.json.decode(os.pread(fd, 4096, 0))
    except (OSError, msgspec.MsgspecError):
        return None
    return said if isinstance(said, dict) else None
