"""Directories that something must lie in: the part of the answer that needs no file system.

Two names may mean one place, so text alone neither allows nor refuses a path: whoever opens it
resolves its links and looks whether it lies in the roots. That is never the agent's own thread,
because a lookup on a dead mount would hold up everything: here a message's path is only text.
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


def narrowed(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return the directories that lie under both lists of roots; empty: there is none."""
    inner = [a for a in one if any(is_under(a, b) for b in other)]
    inner += [b for b in other if any(is_under(b, a) for a in one)]
    return list(dict.fromkeys(inner))


def _normal(path: str) -> str:
    return os.path.normcase(os.path.normpath(path))
