"""Runs that start by themselves, and the alarm for those that did not.

Every 20 s: which schedule is due, which plan has had no success for too long. What was missed while
the machine slept or the agent was away is caught up once, after a while that differs from machine
to machine. Rules: a start is remembered before it is made; schedules are kept by the wall clock,
the timers are not; files are read and written in the disk thread.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from agent.backup_schedules import Schedule, Schedules, is_due, next_s
from agent.backup_store import Store
from agent.backups import Backups
from agent.clock import YEAR_2020_MS, wall_ms
from agent.disk import Disk
from agent.log import Log
from workers import backup_state
from workers.loop import Loop

LOOK_S = 20.0
LATE_S = 120.0
JITTER_S = 60.0
HOUSEKEEPING_S = 6 * 3600.0


class BackupClock:
    """See the module.

    Args:
        max_age_hours: how old a plan's last success may be; None: any age.
        wall: milliseconds since the epoch.
    """

    def __init__(
        self,
        loop: Loop,
        disk: Disk,
        backups: Backups,
        schedules: Schedules,
        max_age_hours: float | None,
        log: Log,
        wall: Callable[[], int] = wall_ms,
        jitter_s: float = JITTER_S,
    ) -> None:
        self._loop = loop
        self._disk = disk
        self._backups = backups
        self._schedules = schedules
        self._max_age_hours = max_age_hours
        self._log = log
        self._wall = wall
        self._jitter_s = jitter_s
        self._pending: set[str] = set()
        self._tidied_s = float("-inf")
        self.overdue: tuple[str, ...] = ()

    def start(self) -> None:
        """Look now, and every 20 s from now on."""
        self._look()

    def _look(self) -> None:
        self._loop.call_later(LOOK_S, self._look)
        now_ms = self._wall()
        if now_ms < YEAR_2020_MS:
            return  # no clock yet: nothing is due by it
        due: list[tuple[Schedule, bool]] = []
        late: list[str] = []

        def task() -> None:
            due.extend(self._due(now_ms / 1000))
            late.extend(self._late(self._backups.store, now_ms / 1000))
            self._tidy(now_ms)

        def done(error: Exception | None) -> None:
            if error is not None:
                self._log.error("schedules cannot be read", error=repr(error))
            self.overdue = tuple(late)
            for schedule, is_late in due:
                self._begin(schedule, is_late=is_late)

        self._disk.submit(task, done)

    def _due(self, now_s: float) -> list[tuple[Schedule, bool]]:
        """Disk thread: what is to be started, each start noted already."""
        starts = self._schedules.starts()
        found = []
        for schedule in self._schedules.read():
            last_s = starts.get(schedule.id)
            if last_s is None:
                self._schedules.note_start(schedule.id, now_s)  # new: from now on
            elif schedule.enabled and is_due(schedule, last_s, now_s):
                moment = next_s(schedule, last_s)
                self._schedules.note_start(schedule.id, now_s)
                found.append((schedule, moment is not None and now_s - moment > LATE_S))
        return found

    def _late(self, store: Store, now_s: float) -> list[str]:
        """Disk thread: plans that are scheduled and have had no success for too long."""
        if self._max_age_hours is None:
            return []
        found = []
        for plan_id in {each.plan_id for each in self._schedules.read() if each.enabled}:
            good = [
                float(run.get("endedAt") or 0)
                for run in backup_state.history(store.folder(plan_id))
                if not run.get("partial")
            ]
            if now_s - max(good, default=0.0) > self._max_age_hours * 3600:
                found.append(plan_id)
        return sorted(found)

    def _tidy(self, now_ms: int) -> None:
        """Disk thread: drop plans that nobody used."""
        if now_ms / 1000 - self._tidied_s < HOUSEKEEPING_S:
            return
        self._tidied_s = now_ms / 1000
        self._backups.store.drop_old({each.plan_id for each in self._schedules.read()}, now_ms)

    def _begin(self, schedule: Schedule, *, is_late: bool) -> None:
        if schedule.plan_id in self._pending:
            return
        self._pending.add(schedule.plan_id)
        delay_s = random.uniform(0, self._jitter_s) if is_late else 0.0

        def begin() -> None:
            self._pending.discard(schedule.plan_id)
            self._log.info("a scheduled backup begins", schedule=schedule.id, late=is_late)
            self._backups.start_scheduled(schedule.plan_id)

        self._loop.call_later(delay_s, begin)
