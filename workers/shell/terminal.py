"""A pseudo-terminal with a program in it: the platform-neutral face.

`open_terminal` starts the program; output, its end and the program's exit come as callbacks in the
loop's thread. The program ending and the output ending are two events: a background process may
hold the terminal open, and the last output may come after the exit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol


class Terminal(Protocol):
    """One open terminal.

    `on_output(data)`: joined reads of up to 64 KiB. `on_end()`: no output will follow, once.
    """

    on_output: Callable[[bytes], None]
    on_end: Callable[[], None]

    @property
    def pid(self) -> int:
        """The program's process id."""

    @property
    def pending_bytes(self) -> int:
        """Input that the program has not taken yet."""

    def write(self, data: bytes) -> None:
        """Type `data`, in order, without blocking."""

    def pause(self, paused: bool) -> None:
        """Stop reading, so that the program's own writes block; or go on."""

    def resize(self, cols: int, rows: int) -> None:
        """Set the window's size, each 1..1000."""

    def close(self) -> None:
        """Hang up; no callback comes afterwards."""


if sys.platform == "win32":
    from workers.shell.terminal_windows import open_terminal
else:
    from workers.shell.terminal_posix import open_terminal

__all__ = ["Terminal", "open_terminal"]
