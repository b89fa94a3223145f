"""Runs that start by themselves, and the alarm for those that did not.

Every 20 s: which schedule is due, and which plan is overdue: its last success is older than the
owner allows (`backup.maxAgeHours`) or, where the owner has said nothing, its schedule's time has
passed and it did not run. What was missed while the machine slept or the agent was away is caught
up once, after a while that differs from machine to machine. Rules: a start is remembered before it
is made; schedules are kept by the wall clock, the timers are not; files are read and written in the
disk thread.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.backup_schedules import (
    AHEAD_S,
    Moments,
    Schedule,
    Schedules,
    is_due,
    is_missed,
    next_s,
)
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
        max_age_hours: how old a plan's last success may be; None: its schedule says it.
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
        self._ends: dict[Path, tuple[object, float, float]] = {}
        self._damage: str | None = None
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
            moments = self._schedules.settle(now_ms / 1000)
            due.extend(self._due(moments, now_ms / 1000))
            late.extend(self._late(moments, now_ms / 1000))
            self._tidy(now_ms)

        def done(error: Exception | None) -> None:
            if error is not None:
                self._log.error("schedules cannot be read", error=repr(error))
            self._tell_damage()
            self.overdue = tuple(late)
            for schedule, is_late in due:
                self._begin(schedule, is_late=is_late)

        self._disk.submit(task, done)

    def _tell_damage(self) -> None:
        """Once: it is looked at every 20 s."""
        damage = self._schedules.damage
        if damage is not None and damage != self._damage:
            self._log.error("schedules cannot be read", error=damage)
        self._damage = damage

    def _due(self, moments: dict[str, Moments], now_s: float) -> list[tuple[Schedule, bool]]:
        """Disk thread: what is to be started, each start noted already."""
        found = []
        for schedule in self._schedules.read():
            last_s = moments[schedule.id].start_s
            if schedule.enabled and is_due(schedule, last_s, now_s):
                moment = next_s(schedule, last_s)
                self._schedules.note_start(schedule.id, now_s)
                found.append((schedule, moment is not None and now_s - moment > LATE_S))
        return found

    def _late(self, moments: dict[str, Moments], now_s: float) -> list[str]:
        """Disk thread: plans that are scheduled and did not run in time."""
        late = {
            each.plan_id
            for each in self._schedules.read()
            if each.enabled and self._is_late(each, moments[each.id].since_s, now_s)
        }
        return sorted(late)

    def _is_late(self, schedule: Schedule, since_s: float, now_s: float) -> bool:
        folder = self._backups.store.folder(schedule.plan_id)
        # What a clock that was wrong has noted would hide for years that nothing runs.
        ends = self._last_ends(folder)
        ran_s, complete_s = (each if each <= now_s + AHEAD_S else 0.0 for each in ends)
        if self._max_age_hours is not None:
            return now_s - max(since_s, complete_s) > self._max_age_hours * 3600
        is_running = backup_state.read(folder)["state"] == "running"
        return not is_running and is_missed(schedule, max(since_s, ran_s), now_s)

    def _last_ends(self, folder: Path) -> tuple[float, float]:
        """Return when the last run ended, and the last that copied everything."""
        seen = backup_state.history_stamp(folder)
        known = self._ends.get(folder)
        if known is None or known[0] != seen:
            runs = backup_state.history(folder)
            good = [run for run in runs if not run.get("partial")]
            known = self._ends[folder] = (seen, _last_s(runs), _last_s(good))
        return known[1:]

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


def _last_s(runs: list[dict[str, Any]]) -> float:
    return max((float(run.get("endedAt") or 0) for run in runs), default=0.0)
