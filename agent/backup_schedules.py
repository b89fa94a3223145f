"""When plans are run by themselves: cron lines in a time zone, kept in the state directory.

`schedules.json` beside the plans; the command line writes it with no agent running, the agent reads
it again when it has changed. The last start of each is in `scheduled.json`, so that after sleep or
downtime what was missed is caught up once, and never twice in one period.
Source: docs/reference/backup.rst; contract 1.7 `backup_schedule_set`; cronsim.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import BackupPlanError

SCHEDULES = "schedules.json"
STARTS = "scheduled.json"
MAX_SCHEDULES = 200
# A time that was missed longer ago than this is not caught up any more.
CATCH_UP = timedelta(days=14)


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One schedule; `id` is the operator's word for it."""

    id: str
    plan_id: str
    cron: str
    tz: str = "UTC"
    enabled: bool = True


def check(schedule: Schedule) -> None:
    """Refuse what never fires, or where nobody knows when.

    Raises:
        BackupPlanError: the cron line or the zone is wrong.
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


def from_config(said: Sequence[Mapping[str, Any]]) -> list[Schedule]:
    """Return the schedules of the machine's configuration.

    Raises:
        BackupPlanError: one is no schedule, or its cron line or zone is wrong.
    """
    try:
        found = msgspec.convert(list(said), list[Schedule])
    except msgspec.ValidationError as e:
        raise BackupPlanError(f"backup.schedules: {e}") from e
    for schedule in found:
        check(schedule)
    return found


class Schedules:
    """The two files, and what the machine's configuration adds to them.

    Args:
        fixed: of the configuration; they win over others of the same id and are never written.
    """

    def __init__(self, root: Path, fixed: Sequence[Schedule] = ()) -> None:
        self._root = root
        self._fixed = list(fixed)
        self._seen: tuple[int, int] | None = None
        self._schedules: list[Schedule] = []

    def read(self) -> list[Schedule]:
        """Return all schedules."""
        names = {schedule.id for schedule in self._fixed}
        return [*self._fixed, *(each for each in self.written() if each.id not in names)]

    def written(self) -> list[Schedule]:
        """Return those of the file, which is read only when it has changed."""
        try:
            found = os.stat(self._root / SCHEDULES)
        except OSError:
            self._seen, self._schedules = None, []
            return []
        seen = (found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            try:
                data = (self._root / SCHEDULES).read_bytes()
                self._schedules = msgspec.json.decode(data, type=list[Schedule])
            except (OSError, msgspec.MsgspecError):
                self._schedules = []
            self._seen = seen
        return list(self._schedules)

    def write(self, schedules: list[Schedule]) -> None:
        """Replace the schedules.

        Raises:
            BackupPlanError: one is wrong, there are too many, or two share an id.
            OSError: the disk refuses.
        """
        if len(schedules) > MAX_SCHEDULES or len({s.id for s in schedules}) < len(schedules):
            raise BackupPlanError(f"at most {MAX_SCHEDULES} schedules, each with an id of its own")
        for schedule in schedules:
            check(schedule)
        self._write(SCHEDULES, msgspec.json.encode(schedules))
        self._seen = None

    def starts(self) -> dict[str, float]:
        """Return when each was last started, in seconds since the epoch."""
        try:
            data = (self._root / STARTS).read_bytes()
            return msgspec.json.decode(data, type=dict[str, float])
        except (OSError, msgspec.MsgspecError):
            return {}

    def note_start(self, schedule_id: str, now_s: float) -> None:
        """Remember a start before it is made, so that it is never made twice."""
        known = {schedule.id for schedule in self.read()}
        starts = {key: value for key, value in self.starts().items() if key in known}
        starts[schedule_id] = now_s
        self._write(STARTS, msgspec.json.encode(starts))

    def _write(self, name: str, data: bytes) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._root / f"{name}.new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, data)
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
        raise BackupPlanError(f"{schedule.tz!r} is no time zone") from e
    try:
        return CronSim(schedule.cron, after.astimezone(zone))
    except CronSimError as e:
        raise BackupPlanError(f"{schedule.cron!r} is no cron line: {e}") from e
