"""How full each file system is, though one of them may never answer.

Rules: the loop's own thread asks only file systems on a local disk; any other, and whatever is
mounted below one, is asked in a thread of its own with a deadline. One that is late is told once,
left out, and not asked again until its thread has come back. File systems without a size, bind
mounts of the same device and container layers are left out.

Source: contract 1.9, `disk`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

from workers.blocking import Errand
from workers.loop import Loop

DEADLINE_S = 1.0
MAX_MOUNTS = 256
MAX_STUCK = 16  # each holds a thread: beyond that, no further network mount is asked

_LOCAL = frozenset(
    {
        *("apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs"),
        *("msdos", "ntfs", "ntfs3", "overlay", "reiserfs", "ufs", "vfat", "xfs", "zfs"),
    }
)
_WITHOUT_A_SIZE = frozenset(
    {
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devfs"),
        *("devpts", "devtmpfs", "efivarfs", "fusectl", "fuse.gvfsd-fuse", "fuse.lxcfs"),
        *("fuse.portal", "hugetlbfs", "iso9660", "mqueue", "nsfs", "proc", "pstore", "ramfs"),
        *("rpc_pipefs", "securityfs", "selinuxfs", "squashfs", "sysfs", "tmpfs", "tracefs"),
    }
)


class Mount(NamedTuple):
    path: str
    source: str
    fstype: str


class Space(NamedTuple):
    """Bytes."""

    used: int
    available: int


class Log(Protocol):
    def __call__(self, level: str, sentence: str, **fields: Any) -> None: ...


def list_mounts() -> list[Mount]:
    """Return the mounts of this machine as the system lists them; never touches one."""
    import psutil

    return [
        Mount(each.mountpoint, each.device, each.fstype)
        for each in psutil.disk_partitions(all=sys.platform != "win32")
    ]


def worth_asking(mounts: Iterable[Mount]) -> list[Mount]:
    """Leave out what has no size of its own; of one device keep the shortest path."""
    kept: dict[str, Mount] = {}
    visible = {mount.path: mount for mount in mounts}  # what was mounted last covers the others
    for mount in sorted(visible.values(), key=lambda each: (len(each.path), each.path)):
        if mount.fstype in _WITHOUT_A_SIZE or (mount.fstype == "overlay" and mount.path != "/"):
            continue
        is_device = mount.source.startswith("/dev/")
        kept.setdefault(mount.source if is_device else mount.path, mount)
    return sorted(kept.values())[:MAX_MOUNTS]


def may_hang(mounts: Iterable[Mount]) -> set[str]:
    """Return the paths that only a thread may touch: not on a local disk, or below such a one.

    On Windows the list holds local drives alone.
    """
    if sys.platform == "win32":
        return set()
    doubtful: set[str] = set()
    visible = {mount.path: mount for mount in mounts}
    for mount in sorted(visible.values()):  # a parent comes before what is mounted below it
        below = any(mount.path.startswith(path.rstrip("/") + "/") for path in doubtful)
        if below or mount.fstype not in _LOCAL:
            doubtful.add(mount.path)
    return doubtful


def statvfs(path: str) -> Space:
    """Ask one file system; may block for ever.

    Raises:
        OSError: it cannot be asked.
    """
    if sys.platform == "win32":
        import psutil

        usage = psutil.disk_usage(path)
        return Space(usage.used, usage.free)
    else:
        told = os.statvfs(path)
        return Space((told.f_blocks - told.f_bfree) * told.f_frsize, told.f_bavail * told.f_frsize)


class Spaces:
    """Asks all mounts at once, and remembers those that did not answer.

    Args:
        log: told once when a mount does not answer, and once when it does again.
        ask: what measures one mount; it may block.
    """

    def __init__(
        self,
        loop: Loop,
        log: Log,
        ask: Callable[[str], Space] = statvfs,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._loop = loop
        self._log = log
        self._ask = ask
        self._deadline_s = deadline_s
        self._stuck: dict[str, Errand[Space]] = {}

    def measure(self, mounts: list[Mount], done: Callable[[list[dict[str, Any]]], object]) -> None:
        """Call `done` with the wire's `disk`, by mount, within the deadline."""
        self._look_for_the_lost()
        wanted, doubtful = worth_asking(mounts), may_hang(mounts)
        found: dict[str, Space] = {}
        waiting = [each.path for each in wanted if each.path in doubtful]
        waiting = [path for path in waiting if path not in self._stuck][: self._free_threads()]

        def answered(path: str, answer: Space | Exception) -> None:
            if isinstance(answer, Space):
                found[path] = answer
            waiting.remove(path)
            tell_if_complete()

        def tell_if_complete() -> None:
            if not waiting:
                done([_row(each, found[each.path]) for each in wanted if each.path in found])

        for path in list(waiting):
            self._ask_in_a_thread(path, partial(answered, path))
        for each in wanted:
            if each.path not in doubtful:
                with suppress(OSError):
                    found[each.path] = self._ask(each.path)
        tell_if_complete()

    def _free_threads(self) -> int:
        return max(0, MAX_STUCK - len(self._stuck))

    def _ask_in_a_thread(self, path: str, answered: Callable[[Space | Exception], object]) -> None:
        def late() -> None:
            self._stuck[path] = errand
            self._log("warning", "mount does not answer", mount=path, deadline_s=self._deadline_s)
            answered(TimeoutError())

        errand = Errand(self._loop, lambda _: self._ask(path), answered, late, self._deadline_s)

    def _look_for_the_lost(self) -> None:
        for path, errand in list(self._stuck.items()):
            if errand.has_returned():
                del self._stuck[path]
                self._log("info", "mount answers again", mount=path)


def _row(mount: Mount, space: Space) -> dict[str, Any]:
    return {
        "mount": mount.path,
        "fsname": mount.source,
        "fstype": mount.fstype,
        "used": space.used,
        "avail": space.available,
        "capacity": percent(space),
    }


def percent(space: Space) -> float:
    """Return how full a file system is for an ordinary user, as df(1) counts it."""
    total = space.used + space.available
    return round(100 * space.used / total, 1) if total else 0.0
