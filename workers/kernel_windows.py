"""The calls of Windows' kernel32 that jobs need: processes and job objects.

One border: everything else on the Windows side talks to the `Kernel` Protocol, which a test
implements in memory. Every failure is an OSError with Windows' own code.
Source: Microsoft, "Process and Thread Functions", "Job Objects".
"""

from __future__ import annotations

import sys
from typing import Protocol

STILL_ACTIVE = 259


class Kernel(Protocol):
    """What jobs need of the system. Handles are plain integers, to be closed once."""

    def open_process(self, pid: int) -> int:
        """Return a handle on `pid`, fit to wait, ask and terminate."""

    def wait(self, handle: int) -> None:
        """Block until the process has ended."""

    def exit_code(self, handle: int) -> int:
        """Return its exit code, STILL_ACTIVE while it runs."""

    def terminate(self, handle: int, exit_code: int) -> None:
        """End the process at once."""

    def create_job(self, name: str) -> int:
        """Make, or open, the job object `name`, whose members end with its last handle."""

    def open_job(self, name: str) -> int:
        """Return a handle on an existing job object."""

    def assign(self, job: int, process: int) -> None:
        """Put a process, and all it will start, into the job."""

    def members(self, job: int) -> list[int]:
        """Return the pids in the job now."""

    def terminate_job(self, job: int, exit_code: int) -> None:
        """End every member at once."""

    def close(self, handle: int) -> None:
        """Give a handle back."""


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _PROCESS_ACCESS = 0x0001 | 0x0100 | 0x1000 | 0x00100000  # terminate, quota, ask, wait
    _JOB_ALL_ACCESS = 0x1F001F
    _INFINITE = 0xFFFFFFFF
    _BASIC_PROCESS_ID_LIST, _EXTENDED_LIMITS = 3, 9
    _KILL_ON_JOB_CLOSE = 0x2000
    _MOST_MEMBERS = 4096

    class _ExtendedLimits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

        _fields_ = [
            ("process_time", wintypes.LARGE_INTEGER),
            ("job_time", wintypes.LARGE_INTEGER),
            ("flags", wintypes.DWORD),
            ("least_working_set", ctypes.c_size_t),
            ("most_working_set", ctypes.c_size_t),
            ("most_processes", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("priority", wintypes.DWORD),
            ("scheduling", wintypes.DWORD),
            ("io_counters", ctypes.c_ulonglong * 6),
            ("process_memory", ctypes.c_size_t),
            ("job_memory", ctypes.c_size_t),
            ("peak_process_memory", ctypes.c_size_t),
            ("peak_job_memory", ctypes.c_size_t),
        ]

    class _Members(ctypes.Structure):
        """JOBOBJECT_BASIC_PROCESS_ID_LIST."""

        _fields_ = [
            ("assigned", wintypes.DWORD),
            ("listed", wintypes.DWORD),
            ("pids", ctypes.c_size_t * _MOST_MEMBERS),
        ]

    class Kernel32:
        """The real one."""

        def __init__(self) -> None:
            self._dll = ctypes.WinDLL("kernel32", use_last_error=True)
            for call in ("OpenProcess", "CreateJobObjectW", "OpenJobObjectW"):
                getattr(self._dll, call).restype = wintypes.HANDLE

        def open_process(self, pid: int) -> int:
            return _checked(self._dll.OpenProcess(_PROCESS_ACCESS, False, pid))

        def wait(self, handle: int) -> None:
            self._dll.WaitForSingleObject(wintypes.HANDLE(handle), _INFINITE)

        def exit_code(self, handle: int) -> int:
            code = wintypes.DWORD()
            _checked(self._dll.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(code)))
            return code.value

        def terminate(self, handle: int, exit_code: int) -> None:
            _checked(self._dll.TerminateProcess(wintypes.HANDLE(handle), exit_code))

        def create_job(self, name: str) -> int:
            job = _checked(self._dll.CreateJobObjectW(None, name))
            limits = _ExtendedLimits(flags=_KILL_ON_JOB_CLOSE)
            _checked(
                self._dll.SetInformationJobObject(
                    wintypes.HANDLE(job),
                    _EXTENDED_LIMITS,
                    ctypes.byref(limits),
                    ctypes.sizeof(limits),
                )
            )
            return job

        def open_job(self, name: str) -> int:
            return _checked(self._dll.OpenJobObjectW(_JOB_ALL_ACCESS, False, name))

        def assign(self, job: int, process: int) -> None:
            handles = wintypes.HANDLE(job), wintypes.HANDLE(process)
            _checked(self._dll.AssignProcessToJobObject(*handles))

        def members(self, job: int) -> list[int]:
            found = _Members()
            _checked(
                self._dll.QueryInformationJobObject(
                    wintypes.HANDLE(job),
                    _BASIC_PROCESS_ID_LIST,
                    ctypes.byref(found),
                    ctypes.sizeof(found),
                    None,
                )
            )
            return list(found.pids[: found.listed])

        def terminate_job(self, job: int, exit_code: int) -> None:
            _checked(self._dll.TerminateJobObject(wintypes.HANDLE(job), exit_code))

        def close(self, handle: int) -> None:
            self._dll.CloseHandle(wintypes.HANDLE(handle))

    def _checked(result: int | None) -> int:
        if not result:
            raise ctypes.WinError(ctypes.get_last_error())
        return result


def real_kernel() -> Kernel:
    """Return the system's own.

    Raises:
        OSError: this is no Windows.
    """
    if sys.platform == "win32":
        return Kernel32()
    raise OSError("there is no kernel32 on this system")
