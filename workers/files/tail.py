"""Follow one growing file by its name: rotated, cut short, deleted and made again.

No loop, no thread: the caller polls. Rules: the file is opened without following a link and must be
a regular one; a renamed file is read to its end before its successor is opened; only whole lines
are given out; what is too far behind is skipped and counted, never buffered.

Source: contract 1.2, 1.6 `log_tail_*`; fault cases J.
"""

from __future__ import annotations

import os
import re
import stat

from workers.files.errors import FilesError, from_os_error

READ_BYTES = 64 << 10  # given out at once
BACKLOG_BYTES = 256 << 10  # further behind than that, lines are skipped
BLOCK_BYTES = 64 << 10

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class LogFollower:
    """Reads `path` as it grows.

    Args:
        path: the file's name; it need not exist yet.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._offset = 0
        self._was_started = False

    def start(self, lines: int, from_start: bool = False) -> None:
        """Stand before the last `lines` lines, or at the very beginning.

        Raises:
            FilesError: `unsafe_path` or `permission_denied`.
        """
        self._open()
        self._was_started = True
        if self._fd is not None and not from_start:
            self._offset = self._last_lines(self._fd, lines)

    def read(self) -> bytes:
        """Return the next whole lines, at most about READ_BYTES; empty when there is nothing new.

        Raises:
            FilesError: `rotated`: a new file has the name, and this process may not open it; all
                of the old one has been read. `unsafe_path`: something else has the name now.
        """
        if self._fd is None:
            self._open()
            return b""
        # Looked at first: what is renamed now gets no more lines, so its end below is the end.
        is_replaced = self._is_replaced(self._fd)
        data = self._next_lines(self._fd, is_replaced)
        if not data and is_replaced:
            self.close()
            self._open()
        return data

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        """Open what has the name now, if anything has."""
        try:
            # Before the open: a FIFO or a device is not even touched.
            _refuse_odd(os.stat(self._path, follow_symlinks=False))
            fd = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            return
        except PermissionError as e:
            raise FilesError("rotated" if self._was_started else "permission_denied") from e
        except OSError as e:
            raise from_os_error(e) from e
        try:
            _refuse_odd(os.fstat(fd))
        except FilesError:
            os.close(fd)
            raise
        self._fd, self._offset = fd, 0

    def _is_replaced(self, fd: int) -> bool:
        try:
            now, then = os.stat(self._path, follow_symlinks=False), os.fstat(fd)
        except FileNotFoundError:
            return False  # renamed and not made again yet
        except OSError as e:
            raise from_os_error(e) from e
        return (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)

    def _next_lines(self, fd: int, is_last: bool) -> bytes:
        size = os.fstat(fd).st_size
        if size < self._offset:
            self._offset = 0
        notice = b""
        if size - self._offset > BACKLOG_BYTES:
            notice = self._skip_to(fd, size - READ_BYTES)
        data = _read_at(fd, self._offset, READ_BYTES)
        end = data.rfind(b"\n") + 1
        if end == 0 and (is_last or len(data) == READ_BYTES):
            end = len(data)  # nobody will end this line any more, or it is longer than that
        self._offset += end
        lines = data[:end]
        if is_last and lines and not lines.endswith(b"\n"):
            lines += b"\n"
        return notice + lines

    def _skip_to(self, fd: int, target: int) -> bytes:
        """Go on at the first line that begins at `target` or later; say how many were left out."""
        lines = 0
        while self._offset < target:
            block = _read_at(fd, self._offset, min(BLOCK_BYTES, target - self._offset))
            lines += block.count(b"\n")
            self._offset += len(block) or target - self._offset
        rest = _read_at(fd, self._offset, READ_BYTES)
        if b"\n" in rest:
            lines += 1
            self._offset += rest.index(b"\n") + 1
        return f"… skipped {lines} lines\n".encode()

    def _last_lines(self, fd: int, lines: int) -> int:
        """Return where the last `lines` lines begin, found from the end."""
        size = end = os.fstat(fd).st_size
        tail = b""
        while end > 0 and size - end < BACKLOG_BYTES and tail.count(b"\n") <= lines:
            begin = max(0, end - BLOCK_BYTES)
            tail = _read_at(fd, begin, end - begin) + tail
            end = begin
        # A last line without its end is not counted: it is given out when it is whole.
        starts = [found.end() for found in re.finditer(b"\n", tail)]
        if len(starts) > lines:
            return end + starts[-lines - 1]
        return end if end == 0 else end + (starts[0] if starts else 0)


def _read_at(fd: int, offset: int, count: int) -> bytes:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, count)


def _refuse_odd(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FilesError("unsafe_path")


def texts(data: bytes, max_bytes: int) -> list[str]:
    """Split lines into texts of at most `max_bytes` of UTF-8 each, at line ends where it can.

    No character is cut in two; a byte that is no UTF-8 becomes U+FFFD, which has three bytes: that
    is why such data is cut smaller.
    """
    try:
        data.decode()
    except UnicodeDecodeError:
        max_bytes //= 3
    pieces = []
    while data:
        at = _cut(data, max_bytes)
        pieces.append(data[:at].decode("utf-8", "replace"))
        data = data[at:]
    return pieces


def _cut(data: bytes, max_bytes: int) -> int:
    if len(data) <= max_bytes:
        return len(data)
    at = data.rfind(b"\n", 0, max_bytes) + 1
    if at:
        return at
    at = max_bytes
    while at > max_bytes - 3 and data[at] & 0xC0 == 0x80:  # a character goes on here
        at -= 1
    return at
