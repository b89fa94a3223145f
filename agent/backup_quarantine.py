"""Plans that have crashed their worker three times, and are left alone for a day.

Counted for each plan and each thing that is done with it; an end of its own, good or bad, counts
from the beginning again. Rules: kept in `backups/quarantine.json`, so that a new agent knows; the
disk is only touched in the disk thread. Source: cases E.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.clock import wall_ms
from agent.disk import Disk
from agent.log import Log

FILE = "quarantine.json"
CRASHES = 3
HELD_MS = 24 * 3600 * 1000


class Crashes(msgspec.Struct, rename="camel"):
    """How often one thing has crashed; `until_ms` 0: not held."""

    count: int = 0
    until_ms: int = 0


class Quarantine:
    """See the module.

    Args:
        root: the directory of the plans.
        wall: milliseconds since the epoch.
    """

    def __init__(self, root: Path, disk: Disk, log: Log, wall: Callable[[], int] = wall_ms) -> None:
        self._file = root / FILE
        self._disk = disk
        self._log = log
        self._wall = wall
        self._known: dict[str, Crashes] = {}
        self._load()

    def holds(self, op: str, plan_id: str) -> bool:
        """Tell whether it is left alone now."""
        found = self._known.get(_key(op, plan_id))
        if found is None or not found.until_ms:
            return False
        left_ms = found.until_ms - self._wall()
        if 0 < left_ms <= HELD_MS:
            return True
        del self._known[_key(op, plan_id)]  # over; or the clock has gone back: nobody knows
        return False

    def note_crash(self, op: str, plan_id: str) -> bool:
        """Count a crash of its worker; tell whether it is left alone from now on."""
        found = self._known.setdefault(_key(op, plan_id), Crashes())
        found.count += 1
        if found.count >= CRASHES:
            found.until_ms = self._wall() + HELD_MS
            self._log.error("a backup has crashed its worker too often", op=op, plan=plan_id)
        self._save()
        return found.until_ms > 0

    def note_end(self, op: str, plan_id: str) -> None:
        """It has come to an end of its own."""
        if self._known.pop(_key(op, plan_id), None) is not None:
            self._save()

    def _load(self) -> None:
        found: dict[str, Crashes] = {}

        def task() -> None:
            found.update(msgspec.json.decode(self._file.read_bytes(), type=dict[str, Crashes]))

        self._disk.submit(task, lambda _error: self._known.update(found))

    def _save(self) -> None:
        data = msgspec.json.encode(self._known)

        def task() -> None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._file.with_suffix(".new")
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.replace(fresh, self._file)

        self._disk.submit(task)


def _key(op: str, plan_id: str) -> str:
    return f"{op} {plan_id}"
