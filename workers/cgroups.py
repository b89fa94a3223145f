"""One control group for each job, where this process may make some: kill as one, count, limit.

Layouts: version 2 (one tree), hybrid and version 1 (a tree per controller; `cgroup.kill` only in
the version 2 tree). A job's groups are called `jackline-<job>`; in each tree they are made

- version 1: below our own group; that tree lets any group have members and children.
- version 2: below our own group, and then without limits: a group with members cannot pass
  controllers on ("no internal processes"), and moving ourselves away would break the next start
  of our unit, whose main process systemd puts back into that group. Where the unit says
  `Delegate=yes` with `DelegateSubgroup=agent` (systemd 254), our own group is the leaf `agent` of a
  group that is ours: jobs then become its neighbours, with pids and memory limits.

Limits and `cgroup.kill` (Linux 5.14) are each optional, and `JobCgroup.lacks` tells which are
missing. Fallback of the whole: None, and `workers.trees` walks.
Moving another process into a group takes 8 to 16 ms of RCU grace period on the kernel measured, and
so does moving oneself in version 2. What is quick: to be born there (`workers.clone`), and, in
version 1, to move one's own single thread by `tasks` (0.1 ms, Linux 5.5).
Source: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/*.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

assert sys.platform != "win32"

MAX_PIDS = 4096
PREFIX = "jackline-"
LEAF = "agent"

_CONTROLLERS = ("pids", "memory")
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Place(NamedTuple):
    """Where jobs' groups of one tree are made. `controllers`: what can be limited there."""

    directory: str
    is_v2: bool
    controllers: frozenset[str]


def places(proc: str = "/proc/self") -> list[Place]:
    """Find every tree's directory in which this process may make groups; [] where there is none.

    Args:
        proc: the directory of `cgroup` and `mountinfo`; a test passes its own.
    """
    mounts = _mounts(_read(f"{proc}/mountinfo"))
    found = []
    for line in _read(f"{proc}/cgroup").splitlines():
        _, names, group = line.split(":", 2)
        own = _own_directory(mounts, names, group)
        if own is None:
            continue
        place = _place_v1(own, names) if names else _place_v2(own)
        if place is not None and os.access(place.directory, os.W_OK | os.X_OK):
            found.append(place)
    return found


def _mounts(mountinfo: str) -> list[tuple[str, str, str, set[str]]]:
    """Return (root, mount point, type, super options) of the cgroup mounts."""
    mounts = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) >= 5 and len(rest) >= 3 and rest[0] in ("cgroup", "cgroup2"):
            mounts.append((fields[3], _unescape(fields[4]), rest[0], set(rest[2].split(","))))
    return mounts


def _own_directory(
    mounts: Iterable[tuple[str, str, str, set[str]]], names: str, group: str
) -> str | None:
    """Return where the group `group` of the tree `names` ("" for version 2) is mounted."""
    for root, point, kind, options in mounts:
        if (kind == "cgroup2") != (names == "") or not set(
            filter(None, names.split(","))
        ) <= options:
            continue
        relative = os.path.relpath(group, root)
        if not relative.startswith(".."):  # outside this mount: another container's
            return os.path.normpath(os.path.join(point, relative))
    return None


def _place_v1(own: str, names: str) -> Place | None:
    controllers = frozenset(names.split(",")) & frozenset(_CONTROLLERS)
    return Place(own, False, controllers) if controllers else None


def _place_v2(own: str) -> Place:
    parent = os.path.dirname(own)
    if os.path.basename(own) == LEAF and _is_delegated(parent) and not _members(parent):
        for name in _CONTROLLERS:
            with contextlib.suppress(OSError):  # not available here: told by `lacks`
                _write(f"{parent}/cgroup.subtree_control", f"+{name}")
        directory = parent
    else:
        directory = own
    enabled = frozenset(_read(f"{directory}/cgroup.subtree_control").split())
    return Place(directory, True, enabled & frozenset(_CONTROLLERS))


def _is_delegated(directory: str) -> bool:
    """Look for the mark of systemd on what it handed over; an ordinary user owns it then."""
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name) == b"1":
                return True
    try:
        return os.geteuid() != 0 and os.stat(directory).st_uid == os.geteuid()
    except OSError:
        return False


class JobCgroup:
    """The groups of one job, one per tree."""

    def __init__(
        self, directories: list[tuple[str, Place]], max_memory_bytes: int | None = None
    ) -> None:
        self._directories = directories
        self._max_memory_bytes = max_memory_bytes

    @classmethod
    def create(
        cls, job_id: str, where: list[Place], max_memory_bytes: int | None = None
    ) -> JobCgroup | None:
        """Make the groups of `job_id`, or None where none can be made.

        Args:
            job_id: names the groups; must be a plain word.
            where: from `places`.
            max_memory_bytes: of the whole job; None for no limit.
        """
        if not _SAFE.fullmatch(job_id):
            return None
        paths = [(f"{place.directory}/{PREFIX}{job_id}", place) for place in where]
        made = cls(paths, max_memory_bytes)
        made.make()
        return made if made._directories else None

    def make(self) -> None:
        """Make the groups, again where an agent beside ours has removed them as empty."""
        made = []
        for directory, place in self._directories:
            with contextlib.suppress(OSError):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o755)
                made.append((directory, place))
                _limit(directory, place, self._max_memory_bytes)
        self._directories = made

    @classmethod
    def find(cls, job_id: str, where: list[Place]) -> JobCgroup | None:
        """Return the groups that another process made for `job_id`, or None."""
        if not _SAFE.fullmatch(job_id):
            return None
        paths = [(f"{place.directory}/{PREFIX}{job_id}", place) for place in where]
        found = [(path, place) for path, place in paths if os.path.isdir(path)]
        return cls(found) if found else None

    @property
    def lacks(self) -> list[str]:
        """What this job goes without: "kill", "pids", "memory"."""
        has = {name for _, place in self._directories for name in place.controllers}
        if any(os.path.exists(f"{directory}/cgroup.kill") for directory, _ in self._directories):
            has.add("kill")
        return [name for name in ("kill", *_CONTROLLERS) if name not in has]

    @property
    def v2_directory(self) -> str | None:
        """Where in the version 2 tree a process can be born into this job."""
        return next((path for path, place in self._directories if place.is_v2), None)

    def leave_v2(self) -> None:
        """Do without the version 2 group: nobody can get into it in time."""
        for directory, place in self._directories:
            if place.is_v2:
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        self._directories = [each for each in self._directories if not each[1].is_v2]

    def join(self) -> bool:
        """Move the calling, single-threaded process into the version 1 groups; see the module."""
        if self._join():
            return True
        self.make()
        return self._join()

    def _join(self) -> bool:
        joined = True
        for directory, place in self._directories:
            if not place.is_v2:
                try:
                    _write(f"{directory}/tasks", "0")
                except OSError:
                    joined = False
        return joined

    def add(self, pid: int) -> bool:
        """Move `pid`, and thereby all it will start; return whether every tree took it."""
        moved = True
        for directory, _ in self._directories:
            try:
                _write(f"{directory}/cgroup.procs", str(pid))
            except OSError:
                moved = False
        return moved

    def members(self) -> set[int]:
        """Return the pids in the groups now."""
        return {pid for directory, _ in self._directories for pid in _members(directory)}

    def kill(self) -> bool:
        """SIGKILL all members at once, whatever they fork meanwhile.

        Nothing is done, and False returned, when the kernel cannot or when the calling process is
        itself a member.
        """
        for directory, place in self._directories:
            if place.is_v2 and os.getpid() not in _members(directory):
                with contextlib.suppress(OSError):
                    _write(f"{directory}/cgroup.kill", "1")
                    return True
        return False

    def was_out_of_memory(self) -> bool:
        """Has the kernel killed a member because the job's memory was used up?"""
        for directory, place in self._directories:
            events = "memory.events" if place.is_v2 else "memory.oom_control"
            for line in _read(f"{directory}/{events}").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill" and count.strip() not in ("", "0"):
                    return True
        return False

    def remove(self) -> bool:
        """Remove the groups; False as long as somebody lives in one: call again later."""
        left = []
        for directory, place in self._directories:
            try:
                os.rmdir(directory)
            except OSError as e:
                if e.errno != errno.ENOENT:
                    left.append((directory, place))
        self._directories = left
        return not left


def was_out_of_memory() -> bool:
    """Has the kernel killed a member of the calling process's own job for want of memory?"""
    mounts = _mounts(_read("/proc/self/mountinfo"))
    found = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, names, group = line.split(":", 2)
        own = _own_directory(mounts, names, group)
        if own is not None and os.path.basename(own).startswith(PREFIX):
            found.append((own, Place(own, not names, frozenset())))
    return JobCgroup(found).was_out_of_memory()


def remove_empty(where: list[Place]) -> None:
    """Remove what earlier jobs left: every group of ours without members."""
    for place in where:
        try:
            names = os.listdir(place.directory)
        except OSError:
            continue
        for name in names:
            if name.startswith(PREFIX):
                with contextlib.suppress(OSError):  # EBUSY: its job lives
                    os.rmdir(f"{place.directory}/{name}")


def _limit(directory: str, place: Place, max_memory_bytes: int | None) -> None:
    if "pids" in place.controllers:
        with contextlib.suppress(OSError):
            _write(f"{directory}/pids.max", str(MAX_PIDS))
    if "memory" in place.controllers and max_memory_bytes is not None:
        names = ("memory.max",) if place.is_v2 else ("memory.limit_in_bytes",)
        for name in names:
            with contextlib.suppress(OSError):
                _write(f"{directory}/{name}", str(max_memory_bytes))


def _members(directory: str) -> set[int]:
    return {int(word) for word in _read(f"{directory}/cgroup.procs").split()}


def _unescape(path: str) -> str:
    """Mountinfo writes space, tab, newline and backslash in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read())
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    """Write in one call, as these files want it.

    Raises:
        OSError: whatever the kernel says.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
