"""A backup lets everything else go first, at the processor and at the disk.

What it starts inherits both. Source: nice(2), ioprio_set(2).
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import contextlib
import os

_NICE = 5
# Best effort, the last of its eight levels: the idle class may never get its turn.
_IO_PRIORITY = 2 << 13 | 7
_IOPRIO_WHO_PROCESS = 1


def make_gentle() -> None:
    """Lower this process's priorities; a system that refuses is no reason not to back up."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    if sys.platform != "linux":
        return
    from workers import libc, syscall_numbers

    architecture = syscall_numbers.current()
    call = architecture and syscall_numbers.number("ioprio_set", architecture)
    if call:
        with contextlib.suppress(OSError):
            libc.syscall(call, _IOPRIO_WHO_PROCESS, 0, _IO_PRIORITY)
