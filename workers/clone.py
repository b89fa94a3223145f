"""Fork a process that is born inside a control group.

To move a process into a version 2 group afterwards waits for an RCU grace period: 8 to 12 ms on the
kernel measured. `clone3` with CLONE_INTO_CGROUP costs 0.1 ms more than fork. The interpreter is
told as C code that forks has to tell it (PyOS_BeforeFork and so on), and the kernel writes the
child's thread id where the C library keeps it.

Rules: Linux; only for a single-threaded process, because the C library's own fork handlers do not
run. Every failure comes before there is a child, and the caller then forks as usual.
Source: clone(2), PR_GET_TID_ADDRESS in prctl(2), CPython's C API "Process Control".
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys

assert sys.platform == "linux"

_CLONE3 = 435  # on every architecture
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_CLONE_INTO_CGROUP = 0x200000000
_PR_GET_TID_ADDRESS = 40

# Unlike CDLL this keeps the interpreter's lock, as fork must.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Arguments(ctypes.Structure):
    """`struct clone_args` of Linux 5.7."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def fork_into(cgroup_fd: int) -> int:
    """Fork; the child is a member of the group.

    Args:
        cgroup_fd: an open directory of the version 2 tree.

    Returns:
        The child's pid; 0 in the child.

    Raises:
        OSError: there is no child: an old kernel (ENOSYS, E2BIG, EINVAL), a seccomp filter (ENOSYS,
            EPERM), a group that may not be entered or was removed (EACCES, EBUSY, ENODEV).
    """
    arguments = _Arguments(
        flags=_CLONE_INTO_CGROUP | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID,
        exit_signal=signal.SIGCHLD,
        child_tid=_tid_address(),
        cgroup=cgroup_fd,
    )
    size = ctypes.c_long(ctypes.sizeof(arguments))
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = _libc.syscall(ctypes.c_long(_CLONE3), ctypes.byref(arguments), size)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    code = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, f"clone3: {os.strerror(code)}")
    return pid


def _tid_address() -> int:
    """Return where the C library of this thread keeps its thread id.

    Raises:
        OSError: a kernel without CONFIG_CHECKPOINT_RESTORE cannot tell.
    """
    address = ctypes.c_uint64()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0 or not address.value:
        raise OSError(errno.ENOSYS, "clone3: where the thread id is kept cannot be known")
    return address.value
