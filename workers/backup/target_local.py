"""A destination root on this machine. See `workers.backup.target`."""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import contextlib
import errno
import fnmatch
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from workers import policy_roots
from workers.backup import layout
from workers.backup.layout import LATEST
from workers.backup.manifest import sync_directory
from workers.backup.sources import Source
from workers.backup.steps import Job
from workers.backup.target import MARKER, TEMPORARY, Look, own
from workers.backup.tools import Tools, find_program
from workers.backup_request import check_place
from workers.errors import BackupError
from workers.messages_backup import BackupJob

_TURN_S = 0.05
_LACKING = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


class LocalTarget:
    """See the module.

    Raises:
        BackupError: `bad_dest`, `policy_denied`.
    """

    def __init__(self, job: BackupJob, opened: Sequence[Source], tools: Tools) -> None:
        self._tools = tools
        self.root = _resolved(job.dest_root)
        check_place(self.root)
        if not policy_roots.holds(job.dest_roots, self.root):
            raise BackupError("policy_denied", f"{self.root} is outside backup.allowedDestRoots")
        for source in opened:
            copy = f"{self.root}/{source.name}"
            if policy_roots.is_under(self.root, source.real):
                raise BackupError("bad_dest", f"{self.root} lies inside the source {source.path}")
            if policy_roots.is_under(source.real, copy):
                raise BackupError("bad_dest", f"{source.path} lies inside its own copy, {copy}")

    def look(self, names: Sequence[str]) -> Job[Look]:
        yield None
        exists = os.path.isdir(self.root)
        if not exists and os.path.lexists(self.root):
            raise BackupError("bad_dest", f"{self.root} is no directory")
        nearest = self.root if exists else os.path.dirname(self.root)
        if not os.path.isdir(nearest):
            raise BackupError("bad_dest", f"{nearest} does not exist; only destRoot itself is made")
        found = {name: layout.snapshots(_listed(f"{self.root}/{name}")) for name in names}
        return Look(
            exists=exists,
            is_fresh=not exists or not _listed(self.root),
            is_marked=os.path.lexists(f"{own(self.root)}/{MARKER}"),
            acls=_may_have(nearest, "system.posix_acl_access"),
            xattrs=_may_have(nearest, "user.jackline"),
            snapshots=found,
            clock_s=time.time(),  # noqa: TID251 - compared with stamps of that clock
        )

    def prepare(self, look: Look, places: Sequence[str]) -> Job[None]:
        yield None
        try:
            os.makedirs(own(self.root), mode=0o700, exist_ok=True)
            if look.is_fresh:
                Path(own(self.root), MARKER).touch()
            for place in places:
                os.makedirs(f"{self.root}/{place}", exist_ok=True)
                if os.path.islink(f"{self.root}/{place}"):
                    raise BackupError("bad_dest", f"{self.root}/{place} is a link")
        except OSError as e:
            reason = "no_space" if e.errno == errno.ENOSPC else "bad_dest"
            raise BackupError(reason, f"{e.filename}: {e.strerror}") from e

    def publish(self, name: str, old: str, new: str) -> Job[None]:
        yield None
        home = f"{self.root}/{name}"
        fresh = f"{home}/.{LATEST}"
        try:
            os.rename(f"{home}/{old}", f"{home}/{new}")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            os.symlink(new, fresh)
            os.replace(fresh, f"{home}/{LATEST}")
            sync_directory(Path(home))
        except OSError as e:
            raise BackupError("io_error", f"{home}: {e.strerror}") from e

    def remove(self, places: Sequence[str]) -> Job[None]:
        rm = find_program("rm", "/bin:/usr/bin")
        paths = [f"{self.root}/{place}" for place in places]
        if not paths or rm is None:
            return
        code, _, words = yield from self._tools.capture([rm, "-rf", "--", *paths])
        if code != 0:
            raise BackupError("io_error", f"not removed: {words.text[:200]}")

    def temporaries(self, place: str, since_s: float) -> Job[list[bytes]]:
        home, found, waiting = os.fsencode(self.path(place)), list[bytes](), [b""]
        until = time.monotonic() + _TURN_S
        while waiting:
            folder = waiting.pop()
            for entry in _entries(os.path.join(home, folder)):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(os.path.join(folder, entry.name))
                elif fnmatch.fnmatchcase(entry.name, TEMPORARY.encode()):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_ctime >= since_s:
                        found.append(os.path.join(folder, entry.name))
            if time.monotonic() > until:
                yield None
                until = time.monotonic() + _TURN_S
        return found

    def unlink(self, place: str, names: Sequence[bytes]) -> Job[None]:
        yield None
        home = os.fsencode(self.path(place))
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(home, name))

    def argument(self, place: str) -> str:
        return f"{self.root}/{place}/"

    def path(self, place: str) -> str:
        return f"{self.root}/{place}"

    def lock_file(self) -> Path:
        return Path(own(self.root), "lock")


def _resolved(dest_root: str) -> str:
    """Return where a root leads; one that is missing is below its parent."""
    return os.path.realpath(dest_root)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _entries(path: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def _may_have(path: str, attribute: str) -> bool:
    """Tell whether a file system knows such attributes at all."""
    if sys.platform != "linux":
        return True
    try:
        os.getxattr(path, attribute)
    except OSError as e:
        return e.errno not in _LACKING
    return True
