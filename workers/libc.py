"""The few Linux calls that the standard library does not offer, through ctypes.

Rules: Linux only; imported where it is needed, because ctypes costs about 0.4 MiB of private
memory (measured, CPython 3.11) and not every process of ours needs it. Every failure is an OSError
with the kernel's errno.
Source: prctl(2), syscall(2), capset(2), mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def prctl(option: int, *arguments: int) -> int:
    """Ask the kernel with prctl, with up to four further integer arguments.

    Raises:
        OSError: with the kernel's errno.
    """
    rest = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    result: int = _libc.prctl(ctypes.c_int(option), *rest)
    if result == -1:
        raise _error(f"prctl {option}")
    return result


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make any system call; integers are passed as longs, buffers as pointers, None as NULL.

    Raises:
        OSError: with the kernel's errno; ENOSYS where the kernel is too old.
    """
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *passed)
    if result == -1:
        raise _error(f"syscall {number}")
    return result


def capset(header: bytes, sets: bytes) -> None:
    """Set the calling thread's capabilities, from the kernel's two structs for it.

    Raises:
        OSError: with the kernel's errno.
    """
    buffers = [ctypes.create_string_buffer(each, len(each)) for each in (header, sets)]
    if _libc.capset(*buffers) == -1:
        raise _error("capset")


def mallopt(parameter: int, value: int) -> bool:
    """Set a parameter of glibc's allocator; False where the C library has no such call."""
    call = getattr(_libc, "mallopt", None)
    return call is not None and call(ctypes.c_int(parameter), ctypes.c_int(value)) == 1


def _error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}")


def malloc_trim() -> None:
    """Give the system back what glibc's allocator holds and nobody uses; else nothing happens."""
    call = getattr(_libc, "malloc_trim", None)
    if call is not None:
        call(ctypes.c_size_t(0))
