"""A Windows pseudo-console (ConPTY) through pywinpty: two threads, because its pipes only block.

The same interface as `terminal_posix`. pywinpty gives and takes text; here it becomes UTF-8 bytes
again, and input is decoded across writes, so that a split character arrives whole. Rules: callbacks
come on the loop's thread; the reader thread has one piece under way at most, so a paused terminal
holds the program up; a thread that sits in a call of pywinpty ends when the console is closed.
Source: Microsoft, "Creating a Pseudoconsole session"; pywinpty's PTY.
"""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from workers.errors import TerminalError
from workers.loop import Loop


class Console(Protocol):
    """The part of `winpty.PTY` that is used; a test has its own."""

    @property
    def pid(self) -> int | None:
        """The program's process id, None before it was started."""

    def spawn(
        self,
        appname: str,
        cmdline: str | None = None,
        cwd: str | None = None,
        env: str | None = None,
    ) -> bool:
        """Start the program; `env` is NAME=value, each ended by a NUL."""

    def read(self, *, blocking: bool) -> str:
        """Return what the program wrote; "" at its end."""

    def write(self, to_write: str) -> int:
        """Type; returns how much was taken."""

    def set_size(self, cols: int, rows: int) -> None:
        """Set the window's size."""

    def cancel_io(self) -> bool:
        """Wake a thread that sits in `read`."""


def _ignore(*_: object) -> None:
    return None


class WindowsTerminal:
    """See `workers.shell.terminal.Terminal`.

    Args:
        failures: the exceptions by which the console says that its program is gone.
    """

    def __init__(
        self, loop: Loop, console: Console, pid: int, failures: tuple[type[Exception], ...]
    ) -> None:
        self.on_output: Callable[[bytes], None] = _ignore
        self.on_end: Callable[[], None] = _ignore
        self.pid = pid
        self.pending_bytes = 0
        self._loop = loop
        self._console: Console | None = console
        self._failures = failures
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._input: list[tuple[str, int]] = []
        self._has_input = threading.Condition()
        self._go = threading.Semaphore(0)
        self._reader_waits = True
        self._paused = False
        self._closed = False
        for target in (self._read, self._write):
            threading.Thread(target=target, args=(console,), daemon=True).start()
        loop.call_soon(self._let_read)

    def write(self, data: bytes) -> None:
        if self._closed or not data:
            return
        self.pending_bytes += len(data)
        with self._has_input:
            self._input.append((self._decoder.decode(data), len(data)))
            self._has_input.notify()

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._let_read()

    def resize(self, cols: int, rows: int) -> None:
        if self._console is not None:
            try:
                self._console.set_size(cols, rows)
            except self._failures:
                return  # the program has gone; its exit is on the way

    def close(self) -> None:
        if self._console is None:
            return
        console, self._console = self._console, None
        with self._has_input:
            self._closed = True
            self._input.clear()
            self._has_input.notify()
        self.pending_bytes = 0
        self._go.release()
        # Both threads let go of the console then, and with its last reference it is closed.
        try:
            console.cancel_io()
        except self._failures:
            return

    # On the loop's thread ------------------------------------------------------------------------

    def _let_read(self) -> None:
        if self._reader_waits and not self._paused:
            self._reader_waits = False
            self._go.release()

    def _on_text(self, data: bytes) -> None:
        if self._closed:
            return
        self.on_output(data)
        self._reader_waits = True
        self._let_read()

    def _on_written(self, count: int) -> None:
        self.pending_bytes = max(0, self.pending_bytes - count)

    def _on_end(self) -> None:
        if not self._closed:
            self.on_end()

    # On threads of their own ---------------------------------------------------------------------

    def _read(self, console: Console) -> None:
        while True:
            self._go.acquire()
            if self._closed:
                return
            try:
                text = console.read(blocking=True)
            except self._failures:
                text = ""
            if not text:
                self._loop.call_threadsafe(self._on_end)
                return
            # Lone surrogates come from programs that write broken UTF-16.
            data = text.encode("utf-8", "replace")
            self._loop.call_threadsafe(partial(self._on_text, data))

    def _write(self, console: Console) -> None:
        while True:
            with self._has_input:
                self._has_input.wait_for(lambda: self._input or self._closed)
                if self._closed:
                    return
                text, count = self._input.pop(0)
            try:
                while text:
                    text = text[max(1, console.write(text)) :]
            except self._failures:
                text = ""  # the program has gone; its exit is on the way
            self._loop.call_threadsafe(partial(self._on_written, count))


def open_terminal(
    loop: Loop,
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    cols: int,
    rows: int,
    new_console: Callable[[int, int], Console] | None = None,
    failures: tuple[type[Exception], ...] | None = None,
) -> WindowsTerminal:
    """Start `argv` in a new console.

    Args:
        env: the program's whole environment.
        cwd: where it starts; this process's own directory where it does not exist.
        new_console: makes a console of (cols, rows); pywinpty's ConPTY unless a test has its own.
        failures: what its calls raise.

    Raises:
        TerminalError: no console can be had, or the program does not start in it.
        FileNotFoundError: there is no such program.
    """
    if new_console is None or failures is None:
        new_console, failures = _winpty()
    if not os.path.isfile(argv[0]):
        raise FileNotFoundError(2, "no such program", argv[0])
    try:
        console = new_console(cols, rows)
        console.spawn(
            argv[0],
            cmdline=subprocess.list2cmdline(argv[1:]),
            cwd=cwd if os.path.isdir(cwd) else None,
            env="".join(f"{name}={value}\0" for name, value in env.items()),
        )
    except failures as e:
        raise TerminalError(f"cannot start {argv[0]}: {e}") from e
    pid = console.pid
    if pid is None:
        raise TerminalError(f"cannot start {argv[0]}: it has no process")
    return WindowsTerminal(loop, console, pid, failures)


def _winpty() -> tuple[Callable[[int, int], Console], tuple[type[Exception], ...]]:
    """Return how pywinpty makes a ConPTY, and what its calls raise.

    Raises:
        TerminalError: pywinpty is missing.
    """
    if sys.platform != "win32":
        raise TerminalError("there is no pseudo-console on this system")
    try:
        import winpty
    except ImportError as e:
        raise TerminalError("pywinpty is not installed") from e
    conpty = winpty.Backend.ConPTY
    return partial(winpty.PTY, backend=conpty), (winpty.WinptyError, OSError)
