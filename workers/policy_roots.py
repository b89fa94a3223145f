"""Directories that something must lie in, as each side lays them down.

Two names may mean one place, so text alone neither allows nor refuses a path: whoever opens it
resolves its links and asks `holds`. That is never the agent's own thread, because a lookup on a
dead mount would hold up everything: everything else here takes a message's path as text alone.
A place must lie in the directories of both sides, each with its links resolved: below a directory
of the owner's may stand a link that leads out of it, and the hub may name that.
Source: contract 1.4 `cwd`, part 3 `allowedCwds`, `allowedRoots`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


def unfit(path: str) -> str | None:
    """Return why `path` cannot name a place, or None."""
    if "\0" in path:
        return "holds a NUL"
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return "cannot be written as bytes"
    if not is_absolute(path):
        return "is not absolute"
    return None


def is_absolute(path: str) -> bool:
    """Tell whether `path` starts at the root (of a drive)."""
    return os.path.isabs(path)


def is_under(path: str, root: str) -> bool:
    """Tell whether `path` is `root` or lies in it; both absolute, links resolved by the caller."""
    path, root = _normal(path), _normal(root)
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def holds(roots: Sequence[Sequence[str]], place: str) -> bool:
    """Tell whether a place lies in one directory of each side; looks at the file system.

    Args:
        roots: a list for each side that has laid one down; none: anywhere.
        place: absolute, links resolved.
    """
    return all(any(is_under(place, os.path.realpath(root)) for root in side) for side in roots)


def overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether, by their text, anything could lie in both lists of roots."""
    return any(is_under(a, b) or is_under(b, a) for a in one for b in other)


def _normal(path: str) -> str:
    return os.path.normcase(os.path.normpath(path))
