"""The person's own terminal while a remote shell has it: raw, and put back whatever happens.

Rules: POSIX; without a terminal on standard input, keys are what a pipe brings, and its end is
Ctrl-D. One selector waits for keys and for `wake`, which any thread and any signal may call.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import shutil
import signal
import socket
import sys
from collections.abc import Iterator

END_OF_INPUT = "\x04"
_READ_BYTES = 64 << 10
_LEAVING = ("SIGHUP", "SIGTERM")


class Terminal:
    """Standard input and output; use it as a context."""

    def __init__(self) -> None:
        self.is_interactive = os.isatty(0)
        self.left_by: int | None = None
        """The signal that asks us to leave."""
        self.has_new_size = False
        self.is_at_end = False
        """Standard input has brought its last byte."""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._reads_keys = _is_readable(self._selector)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take the terminal: raw, our signals; put everything back at the end."""
        with _raw(self.is_interactive), self._signals():
            try:
                yield
            finally:
                self._selector.close()
                self._woken.close()
                self._waker.close()

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        found = shutil.get_terminal_size()
        return max(1, min(found.columns, 1000)), max(1, min(found.lines, 1000))

    def wake(self) -> None:
        """End a wait, from any thread."""
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def wait(self, timeout_s: float) -> str:
        """Wait for keys or for `wake`; return what was typed, perhaps nothing."""
        typed = ""
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            else:
                typed += self._keys()
        return typed

    def show(self, data: bytes) -> None:
        """Write to standard output, all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(1, rest) :]

    def tell(self, sentence: str) -> None:
        """Tell the person something, on a line of its own."""
        end = "\r\n" if self.is_interactive else "\n"
        with contextlib.suppress(OSError):
            os.write(2, f"{end if self.is_interactive else ''}jackline: {sentence}{end}".encode())

    def _keys(self) -> str:
        try:
            data = os.read(0, _READ_BYTES)
        except OSError:  # the terminal is gone
            data = b""
        if data:
            return self._decoder.decode(data)
        if not self._reads_keys:
            return ""
        self._reads_keys, self.is_at_end = False, True
        self._selector.unregister(0)
        return self._decoder.decode(b"", final=True) + END_OF_INPUT

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        names = [name for name in ("SIGWINCH", *_LEAVING) if hasattr(signal, name)]
        before = {name: signal.getsignal(getattr(signal, name)) for name in names}
        for name in names:
            signal.signal(getattr(signal, name), self._on_signal)
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        if signal.Signals(number).name in _LEAVING:
            self.left_by = number
        else:
            self.has_new_size = True
        self.wake()


def _is_readable(selector: selectors.BaseSelector) -> bool:
    """Let a selector watch standard input; a plain file cannot be watched, and is not read."""
    try:
        selector.register(0, selectors.EVENT_READ)
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def _raw(is_interactive: bool) -> Iterator[None]:
    if sys.platform == "win32" or not is_interactive:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
