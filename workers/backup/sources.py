"""The directories that are backed up: opened, looked at, and only then used.

What was checked is what is used: rsync starts in the opened directory (`fchdir`) and is told `./`.
Where a path really leads is read from the open descriptor, so no link swapped in later matters.
Source: cases H; proc(5) `/proc/self/fd`.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import contextlib
import os
from collections.abc import Sequence

import msgspec

from workers import policy_roots
from workers.backup_request import name_of
from workers.errors import BackupError


class Source(msgspec.Struct, frozen=True):
    """One open directory. `path` as asked for; `real` where it leads; `device` its file system."""

    path: str
    real: str
    fd: int
    device: int = -1

    @property
    def name(self) -> str:
        return name_of(self.path)

    def is_elsewhere(self, directory: bytes) -> bool:
        """Tell whether a directory below is on another file system; rsync says nothing of it."""
        try:
            found = os.stat(directory, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return found.st_dev != self.device

    def may_read(self, file: bytes) -> bool:
        """Tell whether this process may read a file below."""
        try:
            return os.access(file, os.R_OK, dir_fd=self.fd, effective_ids=True)
        except OSError:
            return False

    def enter(self) -> None:
        """Make it the working directory, for the next child."""
        os.fchdir(self.fd)

    def close(self) -> None:
        """Let it go."""
        with contextlib.suppress(OSError):
            os.close(self.fd)


def open_directory(path: str, roots: Sequence[Sequence[str]], reason: str) -> Source:
    """Open a directory that `roots` hold (`policy_roots`).

    Raises:
        BackupError: `reason` (not there, no directory), or `policy_denied`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise BackupError(reason, f"{path}: {e.strerror}") from e
    real = _where(fd, path)
    if not policy_roots.holds(roots, real):
        os.close(fd)
        raise BackupError("policy_denied", f"{path} leads to {real}, outside the allowed roots")
    return Source(path, real, fd, os.fstat(fd).st_dev)


def _where(fd: int, path: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return os.path.realpath(path)
