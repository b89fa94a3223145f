"""Tell whose orphans have just arrived at this process, a subreaper like each of its workers.

While a worker lives, its job's daemons stay below it. When it dies they come to the zygote, all at
once and before its death is told: so what is new here when a worker's end is collected was that
worker's. After an orderly end they are daemons that somebody meant to start (a service, `nohup`)
and stay; after a killing they are the rest of a job that nobody can end any more. This needs no
mark in their environment, which `sudo` and `env -i` wipe out.

Rules: the loop's thread; call `arrived` once for every worker's end, orderly or not. Two workers
that die in the same turn cannot be told apart.
Source: prctl(2), PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Container

from workers import trees_posix
from workers.processes import ProcessRef

assert sys.platform != "win32"


class Strays:
    """The orphans that this process knows of."""

    def __init__(self) -> None:
        self._known: set[ProcessRef] = set()

    def arrived(self, workers: Container[int]) -> list[ProcessRef]:
        """Return the living children that are new since the last call and no workers."""
        now = {each for each in trees_posix.children(os.getpid()) if each.pid not in workers}
        new = now - self._known
        self._known = now
        return list(new)
