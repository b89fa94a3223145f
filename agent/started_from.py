"""The owner's files that an agent was started from, and whether they are still what it read.

Rules: an agent reads its files once, at its start, so that nothing changes under a running job;
whoever asks it how it does is told when they have changed since. Looked at by the asking process:
the agent's own thread must not wait for a file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

# Modification time in ns, size, inode; None: it was not there.
Mark = list[int] | None


def marks(paths: Iterable[Path | None]) -> dict[str, Mark]:
    """Note what is there now."""
    found: dict[str, Mark] = {}
    for path in paths:
        if path is not None:
            try:
                found[str(path)] = _mark(str(path))
            except OSError:
                continue  # not ours to look at; who reads it will say so
    return found


def warnings(noted: object) -> list[str]:
    """Return one sentence for each file that is not what it was.

    Args:
        noted: what `marks` returned then, perhaps by way of JSON; anything else has no files.
    """
    told = []
    for path, before in noted.items() if isinstance(noted, Mapping) else ():
        try:
            is_same = _mark(str(path)) == before
        except OSError:
            continue
        if not is_same:
            told.append(f"{path} was changed after the agent had read it; restart it (jobs go on)")
    return told


def _mark(path: str) -> Mark:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return [found.st_mtime_ns, found.st_size, found.st_ino]
