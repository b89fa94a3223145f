"""Read and replace `~/.ssh/authorized_keys` so that it is always the old file or the new one.

Rules: the home and `.ssh` are opened once, as directories, and everything after that is relative
to their descriptors; no symbolic link is followed; only a regular file with a single name is read;
the new content goes to a temporary beside it, is fsynced, and is renamed over it; a file that
changed in between is read again. Nothing is repaired that was not asked for: odd modes and owners
are kept, and told (`sshd_would_ignore`). One writer of ours at a time: a lock on the directory.
POSIX only; blocks; never on the loop's thread.

Source: contract 1.6; fault cases K; sshd_config(5) StrictModes.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from workers.keys.errors import SyncError, from_os_error

assert sys.platform != "win32"

FILE = "authorized_keys"
# A fixed name: what a killed writer left behind is found and removed by the next one.
TEMPORARY = ".authorized_keys.jackline-new"
MAX_FILE_BYTES = 1 << 20
ATTEMPTS = 5

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

WOULD_IGNORE = "sshd_would_ignore"


class Written(NamedTuple):
    """What an update did. `warn` is WOULD_IGNORE where sshd would not read the file, else None."""

    changed: bool
    warn: str | None
    detail: str | None


class _File(NamedTuple):
    content: bytes
    status: os.stat_result | None  # None: there is no file yet


def update(home: str, edit: Callable[[bytes], bytes], go_on: Callable[[], bool]) -> Written:
    """Replace the file's content by `edit(content)`.

    Args:
        home: the account's home, absolute.
        edit: pure; called again if somebody else changed the file meanwhile. Giving back what it
            was given leaves the file untouched.
        go_on: asked right before the new file takes the old one's place; False gives up.

    Raises:
        SyncError: `unsafe_path`, `no_space`, `too_large`, `busy`, `abandoned` or an errno's name;
            the old file is in place, and no temporary is left. (Only when the directory cannot be
            fsynced is the new file in place and the error tells that it may not last.)
    """
    with _opened(home, None, "open the home") as home_fd:
        with _ssh_directory(home_fd) as ssh_fd:
            with suppress(
                OSError
            ):  # a file system without locks; the check before the rename stays
                fcntl.flock(ssh_fd, fcntl.LOCK_EX)
            changed = _change(ssh_fd, edit, go_on)
            try:
                why = _why_ignored(home_fd, ssh_fd)
            except (OSError, SyncError):
                why = None  # the keys are in place: a warning that cannot be had is no failure
    return Written(changed, WOULD_IGNORE if why else None, why)


@contextmanager
def _opened(path: str, dir_fd: int | None, doing: str) -> Iterator[int]:
    try:
        fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    except OSError as e:
        raise from_os_error(e, doing) from e
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _ssh_directory(home_fd: int) -> Iterator[int]:
    try:
        os.mkdir(".ssh", 0o700, dir_fd=home_fd)
    except FileExistsError:
        pass
    except OSError as e:
        raise from_os_error(e, "make ~/.ssh") from e
    with _opened(".ssh", home_fd, "open ~/.ssh") as fd:
        yield fd


def _change(ssh_fd: int, edit: Callable[[bytes], bytes], go_on: Callable[[], bool]) -> bool:
    for _ in range(ATTEMPTS):
        old = _read(ssh_fd)
        content = edit(old.content)
        if content == old.content:
            return False
        if _replace(ssh_fd, old.status, content, go_on):
            return True
    raise SyncError("busy", f"{FILE} changed {ATTEMPTS} times while it was being read")


def _read(ssh_fd: int) -> _File:
    """Read the file; a FIFO or a device is never opened, and could not block if it were."""
    status = _status(ssh_fd)
    if status is None:
        return _File(b"", None)
    _refuse_odd(status)
    try:
        fd = os.open(FILE, _READ, dir_fd=ssh_fd)
        with os.fdopen(fd, "rb", buffering=0) as file:
            status = os.fstat(fd)
            _refuse_odd(status)
            return _File(_read_all(file.fileno()), status)
    except OSError as e:
        raise from_os_error(e, f"read {FILE}") from e


def _read_all(fd: int) -> bytes:
    content = b""
    while chunk := os.read(fd, MAX_FILE_BYTES + 1 - len(content)):
        content += chunk
    if len(content) > MAX_FILE_BYTES:
        raise SyncError("too_large", f"{FILE} is larger than {MAX_FILE_BYTES} bytes")
    return content


def _status(ssh_fd: int) -> os.stat_result | None:
    try:
        return os.stat(FILE, dir_fd=ssh_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise from_os_error(e, f"look at {FILE}") from e


def _refuse_odd(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SyncError("unsafe_path", f"{FILE} is not a regular file")
    if status.st_nlink != 1:
        # Its other name may be another user's file, whose content would be copied here.
        raise SyncError("unsafe_path", f"{FILE} has {status.st_nlink} names (hard links)")


def _replace(
    ssh_fd: int, old: os.stat_result | None, content: bytes, go_on: Callable[[], bool]
) -> bool:
    """Put a new file in the old one's place; False: the old one is no longer what was read."""
    try:
        with _temporary(ssh_fd):
            _write_temporary(ssh_fd, old, content)
            if not go_on():
                raise SyncError("abandoned", "the sync was ended before the file was replaced")
            if not _is_same(_status(ssh_fd), old):
                return False
            os.rename(TEMPORARY, FILE, src_dir_fd=ssh_fd, dst_dir_fd=ssh_fd)
    except OSError as e:
        raise from_os_error(e, f"write {FILE}") from e
    try:
        os.fsync(ssh_fd)
    except OSError as e:
        raise from_os_error(e, "the new file is in place, but may not outlast a crash") from e
    return True


@contextmanager
def _temporary(ssh_fd: int) -> Iterator[None]:
    """See to it that there is no temporary before and after."""
    with suppress(FileNotFoundError):
        os.unlink(TEMPORARY, dir_fd=ssh_fd)
    try:
        yield
    finally:
        with suppress(OSError):  # renamed already, or the disk refuses this, too
            os.unlink(TEMPORARY, dir_fd=ssh_fd)


def _write_temporary(ssh_fd: int, old: os.stat_result | None, content: bytes) -> None:
    fd = os.open(TEMPORARY, _CREATE, 0o600, dir_fd=ssh_fd)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if old is not None:
            _keep_owner(fd, old)
            os.fchmod(fd, stat.S_IMODE(old.st_mode))
        os.fsync(fd)
    finally:
        os.close(fd)


def _keep_owner(fd: int, old: os.stat_result) -> None:
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
        return
    try:
        os.fchown(fd, old.st_uid, old.st_gid)
    except PermissionError as e:
        owner = f"{old.st_uid}:{old.st_gid}"
        raise SyncError("EPERM", f"{FILE} belongs to {owner}, which cannot be kept") from e


def _is_same(now: os.stat_result | None, then: os.stat_result | None) -> bool:
    if now is None or then is None:
        return now is then
    return all(
        getattr(now, field) == getattr(then, field)
        for field in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    )


def _why_ignored(home_fd: int, ssh_fd: int) -> str | None:
    """Say what would keep sshd from reading the file (its StrictModes), or None."""
    statuses = {"the home": os.fstat(home_fd), "~/.ssh": os.fstat(ssh_fd), FILE: _status(ssh_fd)}
    for name, status in statuses.items():
        if status is None:
            continue
        if status.st_uid not in (0, os.geteuid()):
            return f"{name} belongs to uid {status.st_uid}"
        if status.st_mode & 0o022:
            return f"{name} is writable for others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None
