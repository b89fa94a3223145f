"""When plans are run by themselves: cron lines in a time zone, kept in the state directory.

`schedules.json` beside the plans; the command line writes it with no agent running, the agent reads
it again when it has changed. The last start of each is in `scheduled.json`, so that after sleep or
downtime what was missed is caught up once, and never twice in one period. Rules: what was set on
the machine stays the machine's: a hub may switch it off and on, and neither change nor remove it;
a file that cannot be read is told, and never written over.
Source: docs/reference/backup.rst; contract 1.7 `backup_schedule_set`; cronsim.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from workers.errors import BackupError

SCHEDULES = "schedules.json"
STARTS = "scheduled.json"
MAX_SCHEDULES = 200
# A time that was missed longer ago than this is not caught up any more.
CATCH_UP = timedelta(days=14)
# How long after its time a run may end before it counts as one that did not take place.
GRACE_S = 6 * 3600.0
# A moment further ahead than that was noted by a clock that was wrong: it counts no more.
AHEAD_S = 26 * 3600.0


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One schedule; `id` is the operator's word for it, `by` says who has set it."""

    id: str
    plan_id: str
    cron: str
    tz: str = "UTC"
    enabled: bool = True
    by: Literal["machine", "hub"] = "machine"

    @property
    def what(self) -> str:
        """What it does when."""
        return f"{self.plan_id} {self.cron} {self.tz}"

    @property
    def text(self) -> str:
        """All that it says: with another text it begins anew."""
        return f"{self.what} {'on' if self.enabled else 'off'}"


class Moments(msgspec.Struct, frozen=True, array_like=True):
    """When a schedule was last started, and since when it is as it is; seconds since the epoch."""

    text: str
    start_s: float
    since_s: float


def check(schedule: Schedule) -> None:
    """Refuse what never fires, or where nobody knows when.

    Raises:
        BackupError: `bad_schedule`: the cron line or the zone is wrong.
    """
    _cron(schedule, datetime.now(UTC))


def next_s(schedule: Schedule, after_s: float) -> float | None:
    """Return the first moment after `after_s` (seconds since the epoch) that it fires; None: never.

    A time that a clock change skips or repeats fires once.
    """
    moments = _cron(schedule, datetime.fromtimestamp(after_s, UTC))
    try:
        return float(next(moments).timestamp())
    except StopIteration:
        return None


def is_due(schedule: Schedule, last_start_s: float, now_s: float) -> bool:
    """Tell whether it should have fired since its last start; what was missed counts once."""
    since_s = max(last_start_s, now_s - CATCH_UP.total_seconds())
    if since_s > now_s:
        return False  # the clock went back: the start that was counted still counts
    moment = next_s(schedule, since_s)
    return moment is not None and moment <= now_s


def is_missed(schedule: Schedule, ran_s: float, now_s: float) -> bool:
    """Tell whether it was due since it last ran, and has had its time to begin and to end."""
    moment = next_s(schedule, ran_s)
    return moment is not None and moment + GRACE_S < now_s


def from_config(said: Sequence[Mapping[str, Any]]) -> list[Schedule]:
    """Return the schedules of the machine's configuration.

    Raises:
        BackupError: `bad_schedule`: one is none, or its cron line or zone is wrong.
    """
    try:
        found = msgspec.convert(list(said), list[Schedule])
        for schedule in found:
            check(schedule)
    except (msgspec.ValidationError, BackupError) as e:
        raise _bad(f"backup.schedules: {e}") from e
    return [msgspec.structs.replace(schedule, by="machine") for schedule in found]


class Schedules:
    """The two files, and what the machine's configuration adds to them.

    Args:
        fixed: of the configuration; they win over others of the same id and are never written.
        fault: why those of the configuration are not used, or None.
    """

    def __init__(
        self, root: Path, fixed: Sequence[Schedule] = (), fault: str | None = None
    ) -> None:
        self.fault = fault
        self.damage: str | None = None  # why the file cannot be read
        self._root = root
        self._fixed = list(fixed)
        self._seen: tuple[int, int] | None = None
        self._schedules: list[Schedule] = []

    @property
    def fixed(self) -> set[str]:
        """The ids of those in the configuration."""
        return {schedule.id for schedule in self._fixed}

    def read(self) -> list[Schedule]:
        """Return all schedules."""
        fixed = self.fixed
        return [*self._fixed, *(each for each in self.written() if each.id not in fixed)]

    def written(self) -> list[Schedule]:
        """Return those of the file, which is read only when it has changed.

        Of a damaged one what was read last, and `damage` says so.
        """
        path = self._root / SCHEDULES
        try:
            found = os.stat(path)
            seen = (found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._schedules = msgspec.json.decode(path.read_bytes(), type=list[Schedule])
            self._seen, self.damage = seen, None
        except FileNotFoundError:
            self._seen, self._schedules, self.damage = None, [], None
        except (OSError, msgspec.MsgspecError) as e:
            self.damage = f"{path}: {e}: put it back from a copy, or remove it and add them again"
        return list(self._schedules)

    def refuse_damage(self) -> None:
        """Go on only where the file is what was written; raises BackupError `io_error`."""
        self.written()
        if self.damage is not None:
            raise BackupError("io_error", self.damage)

    def write(self, schedules: list[Schedule], now_s: float) -> None:
        """Replace the schedules; what is new or changed counts from now on.

        Raises:
            BackupError: `bad_schedule`: one is wrong, there are too many, or two share an id;
                `io_error`: those that are there cannot be read.
            OSError: the disk refuses.
        """
        self.refuse_damage()
        if len(schedules) > MAX_SCHEDULES or len({s.id for s in schedules}) < len(schedules):
            raise _bad(f"at most {MAX_SCHEDULES} schedules, each with an id of its own")
        for schedule in schedules:
            check(schedule)
        self._write(SCHEDULES, msgspec.json.encode(schedules))
        self._seen = None
        self.settle(now_s)

    def take_from_hub(self, wanted: Sequence[Schedule], now_s: float) -> list[str]:
        """Replace what hubs have set; return the ids of the machine's own that were left out.

        Raises:
            BackupError: `bad_schedule`: as `write`, or one of the machine's own is to be another.
            OSError: the disk refuses.
        """
        asked = {schedule.id: schedule for schedule in wanted}
        own = {schedule.id: schedule for schedule in self.read() if schedule.by == "machine"}
        for name in own.keys() & asked.keys():
            self._refuse_change(own[name], asked[name])
        mine = [
            msgspec.structs.replace(schedule, enabled=asked.get(name, schedule).enabled)
            for name, schedule in own.items()
            if name not in self.fixed
        ]
        theirs = [
            msgspec.structs.replace(schedule, by="hub")
            for schedule in wanted
            if schedule.id not in own
        ]
        self.write([*mine, *theirs], now_s)
        return sorted(own.keys() - asked.keys())

    def settle(self, now_s: float) -> dict[str, Moments]:
        """Return the moments of every schedule; those of new and changed ones begin now."""
        known = self.moments()
        schedules = self.read()
        found = {} if self.damage is None else dict(known)
        for schedule in schedules:
            moments = known.get(schedule.id)
            is_new = moments is None or moments.text != schedule.text
            if moments is None or is_new or moments.start_s > now_s + AHEAD_S:
                moments = Moments(schedule.text, now_s, now_s)
            found[schedule.id] = moments
        if found != known:
            self._write(STARTS, msgspec.json.encode(found))
        return found

    def moments(self) -> dict[str, Moments]:
        """Return what is kept of each schedule's moments."""
        try:
            data = (self._root / STARTS).read_bytes()
            return msgspec.json.decode(data, type=dict[str, Moments])
        except (OSError, msgspec.MsgspecError):
            return {}

    def note_start(self, schedule_id: str, now_s: float) -> None:
        """Remember a start before it is made, so that it is never made twice."""
        moments = self.settle(now_s)
        moments[schedule_id] = msgspec.structs.replace(moments[schedule_id], start_s=now_s)
        self._write(STARTS, msgspec.json.encode(moments))

    def _refuse_change(self, mine: Schedule, asked: Schedule) -> None:
        is_fixed = mine.id in self.fixed
        if mine.what != asked.what or (is_fixed and mine.enabled is not asked.enabled):
            where = "in its configuration" if is_fixed else "by `jackline backup schedule`"
            raise _bad(f"{mine.id!r} was set on the machine ({mine.what}): change it {where} there")

    def _write(self, name: str, data: bytes) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._root / f"{name}.new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(data)
            while view:  # a nearly full disk takes a part first, without an error
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(fresh, self._root / name)


def _cron(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    # 1.6 MiB with what they bring, for agents that have schedules.
    from zoneinfo import ZoneInfo

    from cronsim import CronSim, CronSimError

    try:
        zone = ZoneInfo(schedule.tz)
    except (ValueError, OSError, KeyError) as e:
        raise _bad(f"{schedule.tz!r} is no time zone") from e
    try:
        return CronSim(schedule.cron, after.astimezone(zone))
    except CronSimError as e:
        raise _bad(f"{schedule.cron!r} is no cron line: {e}") from e


def _bad(sentence: str) -> BackupError:
    return BackupError("bad_schedule", sentence)
