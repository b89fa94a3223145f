"""A backup as people and programs see it: what it is, how it stands, how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from hub.backup import plans, schedules
from hub.backup.models import BackupPlan, BackupSchedules
from hub.backup.progress import Progress
from hub.backup.standing import Standing, of_plan
from hub.clock import iso_or_none, now_ms
from hub.jobs.models import Job
from hub.jobs.views import JobOut


@dataclass(frozen=True)
class Seen:
    """A plan with what is under way for it."""

    plan: BackupPlan
    job: Job | None
    standing: Standing
    progress: dict[str, Any] | None
    schedules: list[dict[str, Any]]


def seen(session: Session, progress: Progress, asset_id: str, *plan_ids: str) -> list[Seen]:
    """Return a machine's plans, or those that are named, as they stand now."""
    rows = plans.of_asset(session, asset_id)
    jobs = plans.open_jobs(session, asset_id)
    timetable = plans.schedules_of(session, asset_id)
    return [
        _seen(plan, jobs.get(plan.id), progress, timetable)
        for plan in rows
        if not plan_ids or plan.id in plan_ids
    ]


def _seen(
    plan: BackupPlan, job: Job | None, progress: Progress, timetable: BackupSchedules | None
) -> Seen:
    told = timetable.schedules if timetable is not None else []
    mine = [one for one in told if one["plan_id"] == plan.id]
    word, due_ms = progress.of(plan), schedules.overdue_ms(mine, plan.success_ms)
    is_missed = word is None and due_ms is not None and due_ms < now_ms()
    standing = of_plan(plan, job, is_missed=is_missed)
    return Seen(plan, job, standing, word, [timed(one) for one in mine])


def timed(one: dict[str, Any]) -> dict[str, Any]:
    """Return a schedule with its words and its next runs, in its own zone."""
    runs = schedules.next_runs(one["cron"], one["tz"], now_ms()) if one["enabled"] else []
    return {
        **{name: one[name] for name in ("id", "plan_id", "cron", "tz", "enabled")},
        "words": schedules.words(one["cron"]),
        "next_runs": [moment.isoformat(timespec="minutes") for moment in runs],
    }


class ScheduleOut(BaseModel):
    """A schedule; `next_runs` are in its own zone."""

    id: str
    plan_id: str
    cron: str
    tz: str
    enabled: bool
    words: str | None
    next_runs: list[str]


class SchedulesOut(BaseModel):
    """What a machine runs by itself; `told_at` None: it was never asked."""

    schedules: list[ScheduleOut]
    told_at: str | None

    @classmethod
    def of(cls, row: BackupSchedules | None) -> SchedulesOut:
        """Show a row."""
        if row is None:
            return cls(schedules=[], told_at=None)
        return cls(
            schedules=[ScheduleOut(**timed(one)) for one in row.schedules],
            told_at=iso_or_none(row.told_ms),
        )


class ProgressOut(BaseModel):
    """How far it is, in the agent's own figures."""

    job_id: str | None
    op: str | None
    file: str | None
    percent: float
    transferred_bytes: int
    total_bytes: int
    files_completed: int
    bytes_per_sec: float | None
    eta_sec: float | None
    at_ms: int


class BackupOut(BaseModel):
    """One backup. `standing` is its state in a word, `sentence` in words; `job` is under way."""

    id: str
    asset_id: str
    name: str
    source_dirs: list[str]
    dest_root: str
    host: str | None
    user: str | None
    port: int | None
    ignore_globs: list[str]
    layout: str | None
    state: str
    standing: str
    sentence: str
    doing: str | None
    version: int
    created_at: str | None
    created_by: str
    planned_at: str | None
    found: dict[str, Any] | None
    plan_error: str | None
    plan_detail: str | None
    approved_at: str | None
    approved_by: str | None
    last_run_at: str | None
    last_state: str | None
    last_error: str | None
    last_detail: str | None
    last_result: dict[str, Any] | None
    last_success_at: str | None
    verified_at: str | None
    is_verified: bool | None
    job: JobOut | None
    progress: ProgressOut | None
    schedules: list[ScheduleOut]

    @classmethod
    def of(cls, one: Seen) -> BackupOut:
        """Show a plan."""
        plan = one.plan
        return cls(
            id=plan.id,
            asset_id=plan.asset_id,
            name=plan.name,
            **plans.fields(plan),
            state=plan.state,
            standing=one.standing.word,
            sentence=one.standing.sentence,
            doing=one.standing.doing,
            version=plan.version,
            created_at=iso_or_none(plan.created_ms),
            created_by=plan.created_by,
            planned_at=iso_or_none(plan.planned_ms),
            found=plan.found,
            plan_error=plan.plan_error,
            plan_detail=plan.plan_detail,
            approved_at=iso_or_none(plan.approved_ms),
            approved_by=plan.approved_by,
            last_run_at=iso_or_none(plan.last_ms),
            last_state=plan.last_state,
            last_error=plan.last_error,
            last_detail=plan.last_detail,
            last_result=plan.last_result,
            last_success_at=iso_or_none(plan.success_ms),
            verified_at=iso_or_none(plan.verified_ms),
            is_verified=plan.is_verified,
            job=None if one.job is None else JobOut.of(one.job),
            progress=None if one.progress is None else ProgressOut(**one.progress),
            schedules=[ScheduleOut(**each) for each in one.schedules],
        )
