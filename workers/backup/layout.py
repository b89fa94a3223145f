"""Where a copy lies below the destination root.

`mirror`: `destRoot/<name>/<rel>`. `snapshot`: `destRoot/<name>/<seq>-<UTC stamp>/<rel>`, unfinished
while it is being made, labelled partial where something could not be copied, and `latest` beside
them. Pure. Order is by sequence number, never by stamp: a clock may be wrong.
Source: docs/reference/backup.rst; contract 1.5.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from workers.errors import BackupError

LATEST = "latest"
PARTIAL = "-partial"
UNFINISHED = "-unfinished"
_NAME = re.compile(r"([0-9]{6,12})-([0-9]{8}T[0-9]{6}Z)(-partial|-unfinished)?")
_STAMP = "%Y%m%dT%H%M%SZ"
# What keeps a snapshot: for each, the part of the stamp that tells two periods apart.
_PERIODS = {"hourly": 11, "daily": 8, "weekly": 0, "monthly": 6, "yearly": 4}


class Snapshot(NamedTuple):
    """One snapshot of every source."""

    seq: int
    stamp: str
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.seq:06d}-{self.stamp}{self.label}"

    @property
    def is_finished(self) -> bool:
        return self.label != UNFINISHED

    @property
    def time_s(self) -> int:
        """Seconds since the epoch, by the clock of that day."""
        return int(_moment(self.stamp).timestamp())


def parse(name: str) -> Snapshot | None:
    """Return what a directory's name says, or None: it is no snapshot of ours."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    snapshot = Snapshot(int(found[1]), found[2], found[3] or "")
    try:
        _moment(snapshot.stamp)
    except ValueError:
        return None
    return snapshot


def snapshots(names: Iterable[str]) -> list[Snapshot]:
    """Return the snapshots among `names`, oldest first."""
    return sorted(each for name in names if (each := parse(name)) is not None)


def fresh(existing: Iterable[Snapshot], now_s: float) -> Snapshot:
    """Name the next snapshot."""
    seq = max((each.seq for each in existing), default=0) + 1
    return Snapshot(seq, time.strftime(_STAMP, time.gmtime(now_s)), UNFINISHED)


def kept(existing: Iterable[Snapshot], retention: Mapping[str, int]) -> set[Snapshot]:
    """Return the finished snapshots that a retention keeps; an empty one keeps all.

    Args:
        retention: `keep_last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly` (also
            `keepLast`, `keep_hourly` …) and how many of each.

    Raises:
        BackupError: `bad_retention`: a word that is none of these, or a negative number.
    """
    newest_first = sorted((s for s in existing if s.is_finished), reverse=True)
    wanted = {_word(word): _number(word, count) for word, count in retention.items()}
    if not any(wanted.values()) or not newest_first:
        return set(newest_first)
    keep = set(newest_first[: max(1, wanted.get("last", 0))])
    keep.update([s for s in newest_first if not s.label][:1])
    for period in _PERIODS:
        keep.update(_one_of_each(newest_first, period, wanted.get(period, 0)))
    return keep


def refuse_future(existing: Iterable[Snapshot], now_s: float) -> None:
    """Refuse to prune while the newest stamp lies in the future: one of the two clocks is wrong.

    Raises:
        BackupError: `clock`.
    """
    newest = max(existing, default=None)
    if newest is not None and newest.time_s > now_s + 60:
        raise BackupError(
            "clock", f"the newest snapshot, {newest.name}, lies in the future: correct the clock"
        )


def _one_of_each(newest_first: list[Snapshot], period: str, count: int) -> list[Snapshot]:
    """The newest of each of the last `count` periods that have any."""
    seen: dict[str, Snapshot] = {}
    for snapshot in newest_first:
        seen.setdefault(_period(snapshot, period), snapshot)
    return list(seen.values())[:count]


def _period(snapshot: Snapshot, period: str) -> str:
    if period == "weekly":
        return time.strftime("%G-%V", time.gmtime(snapshot.time_s))
    return snapshot.stamp[: _PERIODS[period]]


def _moment(stamp: str) -> datetime:
    """Read a stamp; raises ValueError. `time.strptime` would load calendars and locales."""
    date, clock = stamp[:8], stamp[9:15]
    numbers = (date[:4], date[4:6], date[6:], clock[:2], clock[2:4], clock[4:])
    year, month, day, hour, minute, second = map(int, numbers)
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def _word(word: str) -> str:
    plain = re.sub(r"^keep_?", "", word).lower()
    if plain not in ("last", *_PERIODS):
        raise BackupError("bad_retention", f"backup.retention knows no {word!r}")
    return plain


def _number(word: str, count: int) -> int:
    if count < 0:
        raise BackupError("bad_retention", f"backup.retention.{word} is no count")
    return count
