"""A PTY: the worker keeps the master, the program has the slave as its controlling terminal.

`posix_spawn(setsid=True)` with the slave opened as fd 0 makes it the controlling terminal without
a fork of this process. A PTY read returns 4 KiB at most, so reads are joined up to 64 KiB and
handed on at once after a short one. Source: pty(7), posix_spawn(3); pexpect is not used because
its `send` sleeps 50 ms and its `close` 100 ms.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Callable

from workers.errors import TerminalError
from workers.loop import Loop

assert sys.platform != "win32"

READ_BYTES = 4096
JOIN_BYTES = 64 << 10
WRITE_BYTES = 64 << 10


def _ignore(*_: object) -> None:
    return None


class PosixTerminal:
    """See `workers.shell.terminal.Terminal`."""

    def __init__(self, loop: Loop, master: int, pid: int) -> None:
        self.on_output: Callable[[bytes], None] = _ignore
        self.on_end: Callable[[], None] = _ignore
        self.pid = pid
        self.pending_bytes = 0
        self._loop = loop
        self._master = master
        # In one piece: one for each key would cost a hundred times its bytes when somebody types
        # on into a program that does not read.
        self._input = bytearray()
        self._closed = False
        os.set_blocking(master, False)
        loop.set_reader(master, self._on_readable)

    def write(self, data: bytes) -> None:
        if self._closed or not data:
            return
        is_first = not self._input
        self._input += data
        self.pending_bytes = len(self._input)
        if is_first:
            self._on_writable()

    def pause(self, paused: bool) -> None:
        if not self._closed:
            self._loop.set_reader(self._master, None if paused else self._on_readable)

    def resize(self, cols: int, rows: int) -> None:
        if not self._closed:
            _set_size(self._master, cols, rows)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.forget(self._master)
            os.close(self._master)
            self._input.clear()
            self.pending_bytes = 0

    def _on_readable(self) -> None:
        parts: list[bytes] = []
        joined = 0
        ended = False
        while joined < JOIN_BYTES:
            try:
                part = os.read(self._master, READ_BYTES)
            except BlockingIOError:
                break
            except OSError as e:
                # EIO: the last slave descriptor has been closed and all output was read.
                ended = True
                if e.errno != errno.EIO:
                    parts.append(f"\r\n[terminal: {e.strerror}]\r\n".encode())
                break
            if not part:
                ended = True
                break
            parts.append(part)
            joined += len(part)
        if parts:
            self.on_output(b"".join(parts))
        if ended and not self._closed:
            self._loop.forget(self._master)
            self.on_end()

    def _on_writable(self) -> None:
        while self._input:
            try:
                with memoryview(self._input) as whole, whole[:WRITE_BYTES] as piece:
                    written = os.write(self._master, piece)
            except BlockingIOError:
                break
            except OSError:
                # The program has gone; its exit is on the way.
                written = len(self._input)
            del self._input[:written]
        self.pending_bytes = len(self._input)
        if not self._closed:
            self._loop.set_writer(self._master, self._on_writable if self._input else None)


def open_terminal(
    loop: Loop, argv: list[str], env: dict[str, str], cwd: str, cols: int, rows: int
) -> PosixTerminal:
    """Start `argv` in a new terminal, in its own session, with default signal dispositions.

    Args:
        env: the child's whole environment.
        cwd: the worker's own working directory is moved there, for it has no other use.

    Raises:
        TerminalError: no terminal can be had (`/dev/ptmx` missing, none left, no descriptors).
        FileNotFoundError, PermissionError: the program cannot be started.
    """
    if not os.path.isabs(argv[0]):
        # It would be looked up in `cwd`, which is the account's home.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    try:
        master, slave = os.openpty()
    except OSError as e:
        raise TerminalError(f"no terminal: {e.strerror}") from e
    try:
        _set_size(master, cols, rows)
        _chdir(cwd)
        pid = os.posix_spawn(
            argv[0],
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_handled_signals(),
        )
    except OSError as e:
        os.close(master)
        if isinstance(e, FileNotFoundError | PermissionError):
            raise
        raise TerminalError(f"cannot start {argv[0]}: {e.strerror}") from e
    finally:
        os.close(slave)
    return PosixTerminal(loop, master, pid)


def _set_size(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def _chdir(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except OSError:
        os.chdir("/")


def _handled_signals() -> list[int]:
    """Every signal whose disposition may be other than the default; KILL and STOP cannot be."""
    fixed = {signal.SIGKILL, signal.SIGSTOP}
    return [number for number in signal.valid_signals() if number not in fixed]
