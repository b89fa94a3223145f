"""Temporary files that a killed rsync has left in a mirror on this machine.

rsync writes `.<name>.<six letters>` beside the file it makes and takes it away when it ends; after
a SIGKILL it stays. Only such a name is removed, in a mirror, when a file of that name is in the
source, none of the temporary's own name is, and it was changed since the broken-off run began.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import re
import stat
import time

from workers.backup.ground import Ground
from workers.backup.sources import Source
from workers.backup.steps import Job

_TEMPORARY = re.compile(rb"\.(.+)\.[A-Za-z0-9]{6}", re.DOTALL)
_TURN_S = 0.05
_SLACK_S = 5.0


def remove(ground: Ground, since_s: float) -> Job[int]:
    """Remove them; return how many there were."""
    removed = 0
    for source in ground.sources:
        home = os.fsencode(ground.target.path(source.name))
        until = time.monotonic() + _TURN_S
        waiting = [b""]
        while waiting:
            folder = waiting.pop()
            removed += _tidy(home, folder, source, since_s, waiting)
            if time.monotonic() > until:
                yield None
                until = time.monotonic() + _TURN_S
    return removed


def _tidy(home: bytes, folder: bytes, source: Source, since_s: float, waiting: list[bytes]) -> int:
    removed = 0
    try:
        entries = list(os.scandir(os.path.join(home, folder)))
    except OSError:
        return 0
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            waiting.append(os.path.join(folder, entry.name))
            continue
        found = _TEMPORARY.fullmatch(entry.name)
        if found is None or not entry.is_file(follow_symlinks=False):
            continue
        status = entry.stat(follow_symlinks=False)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_ctime >= since_s - _SLACK_S
        if is_ours and not _exists(source, folder, entry.name) and _has(source, folder, found[1]):
            os.unlink(entry.path)
            removed += 1
    return removed


def _has(source: Source, folder: bytes, name: bytes) -> bool:
    """Tell whether a file of that name is in the source; a long name was cut to make room."""
    if _exists(source, folder, name):
        return True
    return len(name) > 200 and any(
        os.fsencode(each).startswith(name) for each in _names(source, folder)
    )


def _names(source: Source, folder: bytes) -> list[str]:
    try:
        fd = os.open(folder or b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=source.fd)
    except OSError:
        return []
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _exists(source: Source, folder: bytes, name: bytes) -> bool:
    try:
        os.stat(os.path.join(folder, name), dir_fd=source.fd, follow_symlinks=False)
    except OSError:
        return False
    return True
