r"""One job object for each job: what on POSIX takes a subreaper, a cgroup and a mark.

A worker enters the object of its job before it starts anything; whatever it starts is then a
member, detached or not, and cannot leave. The object is named after the job, so that an agent can
end a worker that hangs with everything below it; and it ends its members by itself when the worker,
which holds the only lasting handle, is gone.
Source: Microsoft, "Job Objects", "Nested Jobs" (Windows 8).
"""

from __future__ import annotations

import os

from workers.kernel_windows import Kernel

# What a terminated process leaves as its exit code; the wire calls it a kill.
KILLED = 0xC000013A  # STATUS_CONTROL_C_EXIT

_PREFIX = "Local\\jackline-"


class JobObject:
    """A handle on the object of one job."""

    def __init__(self, kernel: Kernel, handle: int) -> None:
        self._kernel = kernel
        self._handle: int | None = handle

    @classmethod
    def enter(cls, kernel: Kernel, job_id: str) -> JobObject:
        """Make the object of `job_id` and put the calling process into it, for good.

        Raises:
            OSError: with Windows' code; the job's tree will not be held together.
        """
        job = cls(kernel, kernel.create_job(_PREFIX + job_id))
        process = kernel.open_process(os.getpid())
        try:
            kernel.assign(job._open_handle(), process)
        except OSError:
            job.close()
            raise
        finally:
            kernel.close(process)
        return job

    @classmethod
    def find(cls, kernel: Kernel, job_id: str) -> JobObject | None:
        """Return the object that a worker made for `job_id`; None when it is gone."""
        try:
            return cls(kernel, kernel.open_job(_PREFIX + job_id))
        except OSError:
            return None

    def others(self) -> list[int]:
        """Return the pids of all members but the calling process."""
        return [pid for pid in self._kernel.members(self._open_handle()) if pid != os.getpid()]

    def terminate_others(self) -> None:
        """End every member but the calling process; call again until `others` is empty."""
        for pid in self.others():
            try:
                process = self._kernel.open_process(pid)
            except OSError:
                continue  # it has ended meanwhile
            try:
                self._kernel.terminate(process, KILLED)
            except OSError:
                continue
            finally:
                self._kernel.close(process)

    def terminate(self) -> None:
        """End every member at once; never from within."""
        self._kernel.terminate_job(self._open_handle(), KILLED)

    def close(self) -> None:
        """Give the handle back; idempotent."""
        if self._handle is not None:
            self._kernel.close(self._handle)
            self._handle = None

    def _open_handle(self) -> int:
        if self._handle is None:
            raise OSError("the job object is closed")
        return self._handle
