"""How backups stand: what is wrong comes first, "did not run" is wrong. Schedules by their zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hub.backup import schedules
from hub.backup.models import BackupPlan
from hub.backup.standing import hero, of_plan
from hub.jobs.models import Job

NEVER = {"state": "approved", "last_state": None, "is_late": False}
COPIED = {**NEVER, "last_state": "succeeded"}


def plan(**fields: Any) -> BackupPlan:
    return BackupPlan(**{**NEVER, **fields})


@pytest.mark.parametrize(
    ("fields", "is_missed", "word"),
    [
        ({"state": "draft"}, False, "draft"),
        ({"state": "draft", "plan_error": "bad_host"}, False, "failed"),
        ({"state": "planned"}, False, "pending"),
        ({}, False, "approved"),
        (COPIED, False, "ok"),
        ({**COPIED, "is_verified": True}, False, "verified"),
        ({**COPIED, "is_verified": False}, False, "different"),
        ({**COPIED, "is_verified": True}, True, "overdue"),
        ({**COPIED, "is_late": True}, False, "overdue"),
        ({"last_state": "partial"}, False, "partial"),
        ({"last_state": "failed", "last_error": "no_space"}, True, "failed"),
        ({"last_state": "unknown"}, False, "unknown"),
        ({"last_state": "cancelled"}, False, "cancelled"),
        ({"state": "planned", "last_state": "failed"}, False, "failed"),
    ],
)
def test_standing_of_a_plan(fields: dict[str, Any], is_missed: bool, word: str) -> None:
    assert of_plan(plan(**fields), None, is_missed=is_missed).word == word


def test_what_is_under_way_does_not_hide_what_is_wrong() -> None:
    job = Job(kind="backup_run", state="running")
    found = of_plan(plan(last_state="failed"), job, is_missed=False)
    assert (found.word, found.doing) == ("failed", "running")


def test_hero_names_what_is_wrong_before_what_is_well() -> None:
    well = of_plan(plan(**COPIED), None, is_missed=False)
    late = of_plan(plan(**COPIED), None, is_missed=True)
    assert hero([well, well]).sentence == "Everything is backed up"
    assert hero([well, late]).sentence == "1 of 2 backups: It did not run when it should have"
    assert hero([]).word == "none"
    assert hero([well, of_plan(plan(), None, is_missed=False)]).word == "approved"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def schedule(**fields: Any) -> dict[str, Any]:
    said = {"cron": "30 2 * * *", "tz": "Europe/Berlin", "enabled": True}
    return {**said, "since_ms": at("2026-03-01 00:00"), **fields}


def test_next_runs_are_in_the_schedules_own_zone_over_a_clock_change() -> None:
    runs = schedules.next_runs("30 12 * * *", "Europe/Berlin", at("2026-03-28 00:00"))
    assert [run.isoformat() for run in runs] == [
        "2026-03-28T12:30:00+01:00", "2026-03-29T12:30:00+02:00", "2026-03-30T12:30:00+02:00"
    ]  # fmt: skip
    assert schedules.words("30 12 * * *") == "At 12:30 PM"


def test_run_is_overdue_once_it_has_had_its_time() -> None:
    success = at("2026-03-10 03:00")
    due = at("2026-03-11 01:30")
    weekly = schedule(cron="0 4 * * 0", tz="UTC")
    assert schedules.overdue_ms([schedule()], success) == due + schedules.GRACE_MS
    assert schedules.overdue_ms([weekly], success) == at("2026-03-15 10:00")
    assert schedules.overdue_ms([weekly, schedule()], success) == due + schedules.GRACE_MS
    assert schedules.overdue_ms([schedule(since_ms=due + 1)], None) == at("2026-03-12 07:30")
    assert schedules.overdue_ms([schedule(enabled=False)], success) is None
    assert schedules.overdue_ms([], success) is None


@pytest.mark.parametrize(
    ("cron", "tz"), [("x", "UTC"), ("* * * *", "UTC"), ("* * * * *", "Mars/Base"), ("", "")]
)
def test_what_is_no_schedule_has_no_next_run_and_a_fault(cron: str, tz: str) -> None:
    assert schedules.next_runs(cron, tz, 0) == []
    assert schedules.fault(cron, tz)
    assert schedules.overdue_ms([schedule(cron=cron, tz=tz)], None) is None
