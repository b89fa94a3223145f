"""End a process tree on Windows: the members of its job object.

There are no signals: closing the console (done by the terminal's owner) is what HUP is elsewhere,
so every step but KILL only gives time. A job whose worker is dead needs nothing: its object ended
its members. Same interface as `trees_posix`.
Source: `workers.jobobjects_windows`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workers.jobobjects_windows import JobObject
from workers.kernel_windows import Kernel, real_kernel

if TYPE_CHECKING:
    from workers.processes import ProcessRef
    from workers.trees import Step

_LOOK_S = 0.05

# The object that this worker has entered, if it is one; set once, by `enter_job`.
_own_job: list[JobObject] = []


def enter_job(job_id: str, kernel: Kernel | None = None) -> None:
    """Hold everything that this worker will start together, under its job's name.

    Raises:
        OSError: the system refused.
    """
    _own_job[:] = [JobObject.enter(real_kernel() if kernel is None else kernel, job_id)]


def was_out_of_memory() -> bool:
    """Nobody is killed for that here."""
    return False


def kill_group(job_id: str) -> bool:
    """The job object goes with its worker, and takes its members along."""
    del job_id
    return False


def kill_own_tree(
    steps: Sequence[Step], cgroup: None = None, main_pid: int | None = None
) -> WindowsTreeKill:
    """End everything that this worker has started, and never the worker itself.

    Args:
        steps: the escalation.
        cgroup: there are none here.
        main_pid: not needed here: the object knows.
    """
    del cgroup, main_pid
    return WindowsTreeKill(_own_job[0] if _own_job else None, steps, whole=False)


def kill_tree(
    root: ProcessRef,
    steps: Sequence[Step],
    cgroup: None = None,
    job_id: str | None = None,
    kernel: Kernel | None = None,
) -> WindowsTreeKill:
    """End the worker `root` of `job_id` and everything it started."""
    del cgroup
    kernel = real_kernel() if kernel is None else kernel
    job = None if job_id is None else JobObject.find(kernel, job_id)
    if job is None and "KILL" in steps[-1].signals:
        _terminate(kernel, root.pid)  # it never got as far as its object
    return WindowsTreeKill(job, steps, whole=True)


def kill_orphans(job_id: str, steps: Sequence[Step], cgroup: None = None) -> WindowsTreeKill:
    """End what a dead worker left; its object has done so unless somebody holds a handle."""
    del cgroup
    job = JobObject.find(real_kernel(), job_id) if sys.platform == "win32" else None
    return WindowsTreeKill(job, steps, whole=True)


def _terminate(kernel: Kernel, pid: int) -> None:
    try:
        process = kernel.open_process(pid)
    except OSError:
        return
    try:
        kernel.terminate(process, 1)
    except OSError:
        return
    finally:
        kernel.close(process)


class WindowsTreeKill:
    """One escalation under way; see `workers.trees.TreeKill`."""

    def __init__(self, job: JobObject | None, steps: Sequence[Step], whole: bool) -> None:
        self._job = job
        self._steps = list(steps)
        self._whole = whole
        self._kills = False
        self._ends_s = float("-inf")
        self._survivors: list[int] = []

    @property
    def survivors(self) -> list[int]:
        return self._survivors

    def step(self, now_s: float) -> float | None:
        """Do what is due; see `workers.trees.TreeKill.step`."""
        if self._job is None:
            return None
        left = self._job.others()
        if not left:
            self._end([])
            return None
        if now_s >= self._ends_s:
            if not self._steps:
                self._end(left)
                return None
            step = self._steps.pop(0)
            self._kills = "KILL" in step.signals
            self._ends_s = now_s + step.wait_s
        if self._kills:
            if self._whole:
                self._job.terminate()
            else:
                self._job.terminate_others()
        return min(_LOOK_S, max(0.0, self._ends_s - now_s))

    def _end(self, survivors: list[int]) -> None:
        self._survivors = survivors
        if self._whole and self._job is not None:
            self._job.close()
            self._job = None
