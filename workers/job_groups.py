"""The zygote's control groups: one set for each worker, from its birth until nobody is in it.

A worker is forked into the version 2 group and moves itself into those of version 1 before it does
anything else, so that all it ever starts is bounded and can be killed as one. Where a worker was
killed, whatever it left is killed; where it ended in order, what its job left running on purpose
stays, and so does the group, until that has ended.

Rules: the zygote's loop, single-threaded; nothing here fails a job: without groups it runs in ours.
Source: docs/adr/0011; cgroups(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

assert sys.platform != "win32"

from workers.cgroups import JobCgroup, Place, places, remove_empty  # noqa: E402 - POSIX from here on

# What confined kinds never come near; a leak is ended before the machine feels it.
SMALL_KINDS = frozenset({"telemetry", "keys", "tail", "listing"})
SMALL_BYTES = 256 << 20
# What clone3 says where it will say so again: an old kernel, a filter.
_NEVER = (errno.ENOSYS, errno.E2BIG, errno.EINVAL, errno.EPERM)


class JobGroups:
    """See the module.

    Args:
        where: from `cgroups.places`; a test passes its own.
    """

    def __init__(self, where: list[Place] | None = None) -> None:
        self._where = places() if where is None else where
        self._can_be_born_inside = True  # until the kernel says no
        self._groups: dict[int, JobCgroup] = {}
        self._left: list[JobCgroup] = []
        self._large_bytes = _most_of_memory()
        remove_empty(self._where)

    def fork(self, job_id: str, kind: str) -> int:
        """Fork like `os.fork`; the child is in the job's groups, as far as there are any.

        Raises:
            OSError: as from `os.fork`.
        """
        cap = SMALL_BYTES if kind in SMALL_KINDS else self._large_bytes
        group = JobCgroup.create(job_id, self._where, cap) if self._where else None
        if group is None:
            return os.fork()
        try:
            pid = self._fork_into(group)
        except OSError:
            group.remove()
            raise
        if pid == 0:
            group.join()
        else:
            self._groups[pid] = group
        return pid

    def ended(self, pid: int, status: int) -> bool:
        """Take note of a worker's end, and end what a killed one has left in its groups.

        Returns:
            Did the kernel kill somebody of the job for want of memory?
        """
        group = self._groups.pop(pid, None)
        if group is None:
            return False
        if status != 0:
            group.kill()
        was_out_of_memory = group.was_out_of_memory()
        if not group.remove():
            self._left.append(group)
        return was_out_of_memory

    def tidy(self) -> None:
        """Remove groups whose last member has ended since."""
        self._left = [group for group in self._left if not group.remove()]

    def _fork_into(self, group: JobCgroup) -> int:
        directory = group.v2_directory
        if sys.platform == "linux" and directory is not None and self._can_be_born_inside:
            from workers.clone import fork_into  # here: ctypes, and Linux alone

            for _ in range(2):
                try:
                    with _opened(directory) as fd:
                        return fork_into(fd)
                except OSError as e:
                    if e.errno in _NEVER:
                        self._can_be_born_inside = False
                        break
                    group.make()
        # To move it there later would take longer than all the rest of a worker's start.
        group.leave_v2()
        return os.fork()


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _most_of_memory() -> int | None:
    """Return three quarters of this machine's memory: a job may use it, not have it all."""
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
    return None
