"""A destination root, on this machine or on another: looked at, prepared, tidied up.

`Target` is what both have in common. What is ours in a destination root lies below `.jackline`
there: a marker that says that deletions may happen, and on this machine the lock.
Rules: `look` changes nothing; every change is made under the lock.
Source: cases H; docs/reference/backup.rst.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from workers.backup.layout import Snapshot
from workers.backup.steps import Job
from workers.backup.versions import Version
from workers.backup_request import OWN_NAME

MARKER = "marker"
TEMPORARY = ".?*.??????"


class Look(msgspec.Struct, frozen=True):
    """What was found. `version`: of the other end's rsync, None on this machine.

    `snapshots`: by the source's name. `is_fresh`: not there yet, or empty. `clock_s`: the time
    there, by which its files are dated.
    """

    exists: bool
    is_fresh: bool
    is_marked: bool
    version: Version | None = None
    acls: bool = True
    xattrs: bool = True
    snapshots: dict[str, list[Snapshot]] = {}
    notes: tuple[str, ...] = ()
    clock_s: float = 0.0


class Target(Protocol):
    """See the module. A `place` is a path below the root, `name` or `name/snapshot`."""

    def look(self, names: Sequence[str]) -> Job[Look]:
        """Look at the root and at the snapshots of these sources."""

    def prepare(self, look: Look, places: Sequence[str]) -> Job[None]:
        """Make the root, its marker if the root is fresh, and these places."""

    def publish(self, name: str, old: str, new: str) -> Job[None]:
        """Give a source's snapshot its final name, and move `latest` to it."""

    def remove(self, places: Sequence[str]) -> Job[None]:
        """Remove whole places."""

    def temporaries(self, place: str, since_s: float) -> Job[list[bytes]]:
        """Return files named like rsync's temporary ones that changed since then, below a place."""

    def unlink(self, place: str, names: Sequence[bytes]) -> Job[None]:
        """Remove single files below a place."""

    def argument(self, place: str) -> str:
        """Return a place as rsync's argument; its content is meant."""

    def path(self, place: str) -> str:
        """Return a place's absolute path, where the target is."""

    def lock_file(self) -> Path:
        """Return the file that is locked; its directory exists after `prepare`."""


def own(root: str) -> str:
    """Return the directory that is ours in a root."""
    return f"{root}/{OWN_NAME}"
