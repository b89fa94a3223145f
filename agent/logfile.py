"""The agent's log file on disk: append, rotate, and never be tricked or stopped by it.

Rules: one thread; the directory is opened once without following a link and everything happens
relative to it; the file must be regular, ours and have one name; 0600. Whatever goes wrong is a
`LogFileError`, and the next write tries again.
Source: contract part 3 "Log"; cases J "Log dir full/read-only/rotated away/symlinked".
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.errors import LogFileError

MAX_BYTES = 10 * 1024 * 1024
KEPT = 5
CHECK_EVERY_S = 1.0


class LogFile:
    """One file and its five elder siblings `NAME.1` … `NAME.5`.

    Args:
        path: made with its directory (0700) when missing.
        max_bytes: a line that would make the file longer goes into a new one.
        clock: seconds, never going backwards; a test passes its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._dir_fd: int | None = None
        self._fd = -1
        self._size = 0
        self._is_torn = False
        self._checked_s = 0.0

    def write(self, line: bytes) -> None:
        """Append one line, its newline included.

        Raises:
            LogFileError: it is not in the file, or only a part of it is.
        """
        try:
            self._make_ready(len(line))
            self._append(line)
        except LogFileError:
            self.close()
            raise
        except OSError as e:
            self.close()
            raise LogFileError(f"{self.path}: {e.strerror or e}") from e

    def close(self) -> None:
        """Let go of the file; the next write opens it again."""
        for fd in (self._fd, self._dir_fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._fd, self._dir_fd = -1, None

    def _append(self, line: bytes) -> None:
        if self._is_torn:  # a full disk took half a line: do not let it swallow the next one
            line = b"\n" + line
        done = 0
        while done < len(line):
            try:
                written = os.write(self._fd, line[done:])
            except OSError:
                self._is_torn = self._is_torn or done > 0
                raise
            done += written
            self._size += written
        self._is_torn = False

    def _make_ready(self, upcoming: int) -> None:
        now = self._clock()
        if self._fd >= 0 and now - self._checked_s >= CHECK_EVERY_S:
            self._checked_s = now
            if self._is_moved():
                self.close()
        if self._fd < 0:
            self._open()
            self._checked_s = now
        if self._size and self._size + upcoming > self._max_bytes:
            self._rotate()

    # -- the directory and the file ------------------------------------------------------------

    def _open(self) -> None:
        self._open_dir()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        # O_NONBLOCK: a FIFO in the file's place must not hold us up.
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        fd = os.open(self._name(), flags, 0o600, dir_fd=self._dir_fd)
        try:
            found = os.fstat(fd)
            self._check(found)
            if sys.platform != "win32" and stat.S_IMODE(found.st_mode) != 0o600:
                os.fchmod(fd, 0o600)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._size = fd, found.st_size

    def _open_dir(self) -> None:
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as e:
            raise NotADirectoryError(20, f"{folder} is not a directory") from e
        if sys.platform != "win32":
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._dir_fd = os.open(folder, flags)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise LogFileError(f"{self.path}: is not a regular file")
        if sys.platform == "win32":
            return
        if found.st_uid != os.geteuid():
            raise LogFileError(f"{self.path}: belongs to uid {found.st_uid}")
        if found.st_nlink != 1:
            raise LogFileError(f"{self.path}: has a second name")

    def _is_moved(self) -> bool:
        """Has somebody rotated the file or its directory away, or put a link in its place?"""
        try:
            named = os.stat(self.path, follow_symlinks=False)
            held = os.fstat(self._fd)
        except OSError:
            return True
        return (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino)

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        for number in range(KEPT, 0, -1):
            elder, younger = self._name(number), self._name(number - 1)
            try:
                os.replace(younger, elder, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
            except FileNotFoundError:
                continue
        self.close()
        self._open()

    def _name(self, number: int = 0) -> str:
        """The name to use with `dir_fd`: bare, or the whole path where there is none."""
        suffix = f".{number}" if number else ""
        if self._dir_fd is None:
            return f"{self.path}{suffix}"
        return f"{self.path.name}{suffix}"
