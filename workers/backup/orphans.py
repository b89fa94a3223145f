"""Temporary files that a killed rsync has left beside the files it was making.

rsync writes `.<name>.<six letters>` and takes it away when it ends; after a SIGKILL it stays. Only
such a name is removed, when a file of that name is in the source, none of the temporary's own name
is, and it was changed since the broken-off run began, by the target's own clock.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import re

from workers.backup.ground import Ground
from workers.backup.sources import Source
from workers.backup.steps import Job

_TEMPORARY = re.compile(rb"\.(.+)\.[A-Za-z0-9]{6}", re.DOTALL)
_SLACK_S = 5.0


def remove(ground: Ground, source: Source, place: str, since_s: float) -> Job[int]:
    """Remove those of one source's copy; return how many there were."""
    found = yield from ground.target.temporaries(place, since_s - _SLACK_S)
    names = [name for name in found if _is_left_over(source, name)]
    yield from ground.target.unlink(place, names)
    return len(names)


def _is_left_over(source: Source, path: bytes) -> bool:
    folder, name = os.path.split(path)
    made = _TEMPORARY.fullmatch(name)
    return made is not None and not _exists(source, path) and _has(source, folder, made[1])


def _has(source: Source, folder: bytes, name: bytes) -> bool:
    """Tell whether a file of that name is in the source; a long name was cut to make room."""
    if _exists(source, os.path.join(folder, name)):
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


def _exists(source: Source, path: bytes) -> bool:
    try:
        os.stat(path, dir_fd=source.fd, follow_symlinks=False)
    except OSError:
        return False
    return True
