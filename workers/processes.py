"""Facts about one process of this machine, and signals that cannot hit the wrong one.

A pid alone names nobody: it is reused. A `ProcessRef` is pid *and* start time, and within one boot
(`boot_id`) that names exactly one process. Rules: nothing here blocks or raises for a process that
is gone: such a process has no facts (None, False). Without /proc (a BSD, macOS) only `is_alive`
and plain signals work, which is the named fallback; on Windows nothing has facts yet, and trees end
through job objects.
Source: proc_pid_stat(5), pidfd_open(2), pidfd_send_signal(2), random(4) for the boot id.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NamedTuple

# Indices into what follows the last ")" of /proc/<pid>/stat; proc_pid_stat(5) counts from 1 and
# has the state as field 3.
_STATE = 0
_PARENT = 1
_UTIME = 11
_STIME = 12
_START_TIME = 19

# A process that has ended and only waits for its parent.
_ENDED = frozenset((b"Z", b"X", b"x"))


class ProcessRef(NamedTuple):
    """One process. `start_time` is in clock ticks since boot, 0 where the system cannot tell."""

    pid: int
    start_time: int


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/<pid>/stat from the state on, or None.

    The command name (field 2) is in parentheses and may itself contain spaces and `)`: so the last
    one counts.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(4096)
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split()
    return fields if len(fields) > _START_TIME else None


def start_time(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot; None when there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[_START_TIME])


def reference(pid: int) -> ProcessRef | None:
    """Name the process that has `pid` now."""
    started = start_time(pid)
    if started is None:
        return ProcessRef(pid, 0) if not has_proc() and _exists(pid) else None
    return ProcessRef(pid, started)


def living(pid: int) -> ProcessRef | None:
    """Name the process that has `pid` now, unless it is a zombie; only with /proc."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in _ENDED:
        return None
    return ProcessRef(pid, int(fields[_START_TIME]))


def is_same(pid: int, started: int) -> bool:
    """Does `pid` still name the process that started at `started`?

    A zombie is still that process. Use `is_alive` to ask whether it can still do anything.
    """
    return start_time(pid) == started


def is_alive(process: ProcessRef) -> bool:
    """Does the process exist and is it more than a zombie?"""
    return living(process.pid) == process or (not has_proc() and _exists(process.pid))


def state(pid: int) -> str | None:
    """Return the kernel's letter (R S D T t Z I), or None when there is no such process."""
    fields = _stat(pid)
    return None if fields is None else fields[_STATE].decode("ascii", "replace")


def parent(pid: int) -> int | None:
    """Return the pid of the parent, or None when there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[_PARENT])


def cpu_time(pid: int) -> float | None:
    """Return the seconds of CPU that the process itself has used, in user and kernel mode."""
    fields = _stat(pid)
    if fields is None or sys.platform == "win32":
        return None
    return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK")


def boot_id() -> str | None:
    """Return the kernel's random id of this boot, or None where it has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64).decode("ascii", "replace").strip() or None
    except OSError:
        return None


def has_proc() -> bool:
    """Is there a Linux /proc to read?"""
    return os.path.exists("/proc/self/stat")


def send(process: ProcessRef, number: int) -> bool:
    """Signal exactly this process; return whether it was there to be signalled.

    The pidfd pins the process: once it is open and the start time still matches, the pid cannot
    have passed on to another. Without pidfds (before Linux 5.3, or a seccomp sandbox) the start
    time is checked and the pid signalled at once: a window of microseconds.

    Raises:
        PermissionError: the process is another user's.
    """
    if sys.platform == "win32":
        return False  # os.kill ends any process there, whatever the number
    descriptor = _open_pidfd(process.pid)
    try:
        if process.start_time and not is_same(process.pid, process.start_time):
            return False
        if sys.platform == "linux" and descriptor is not None:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def _open_pidfd(pid: int) -> int | None:
    """Return a pidfd, or None where there is none to have: old kernel, sandbox, no descriptor."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # gone (the start time tells), ENOSYS, EPERM, EMFILE


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
