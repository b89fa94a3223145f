"""What machines answer: whose it is, once, and what it leaves at the plan. Real database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from hub.admin.requests import Timing
from hub.agents import service as agents
from hub.agents.models import Asset
from hub.assembly import Hub
from hub.authorize import Principal, Role
from hub.backup import plans, progress, requests, results
from hub.backup.models import BackupPlan
from hub.backup.requests import PlanIn, ScheduleIn, SchedulesIn
from hub.errors import ConflictError, DuplicateResultError, ForeignResultError
from hub.jobs import service as jobs_service
from hub.jobs.models import Job
from hub.operators.models import Tenant
from tests.doubles.job_parts import HeldLink, machine
from wire.backup import (
    BackupComplete,
    BackupFailed,
    BackupPlanned,
    BackupProgress,
    BackupResult,
    BackupStart,
    Schedule,
)
from wire.events import TABLE, Direction
from wire.features import FEATURES
from wire.peers import for_peer

PLAN = PlanIn(source_dirs=["/srv/a"], dest_root="/mnt/b", host="nas", user="u", port=2222)


class Parts:
    """One machine, one plan that waits for its answer."""

    def __init__(self, hub: Hub, tenant: Tenant) -> None:
        self.hub, self.tenant = hub, tenant
        self.who = Principal("user", "u", "ada", tenant.id, Role.TENANT_ADMIN)
        self.asset, agent = machine(hub.database, tenant.id, "m1")
        other, other_agent = machine(hub.database, tenant.id, "m2")
        self.link = HeldLink(agent.id, self.asset.id, tenant.id)
        self.foreign = HeldLink(agent.id, self.asset.id, tenant.id, features=None)
        self.other = HeldLink(other_agent.id, other.id, tenant.id)
        self.plan_id, self.job_id = self.unit(self._add)
        self.sent(self.job_id)

    def _add(self, session: Session) -> tuple[str, str]:
        add = self.hub.backups.submission.add
        plan, job = add(session, self.who, self.asset.id, PLAN, None)
        return plan.id, job.id

    def unit(self, work: Callable[[Session], Any]) -> Any:
        return self.hub.database.write_now(self.tenant.id, work)

    def sent(self, job_id: str) -> None:
        claimed = self.unit(
            lambda session: jobs_service.claim(session, self.asset.id, self.link.agent_id, 8)
        )
        assert job_id in [one.id for one in claimed]

    def take(self, message: Any, link: Any = None) -> Job | None:
        kind = self.hub.jobs.kind(requests.RUN)
        link = link or self.link

        def work(session: Session) -> Job | None:
            match message:
                case BackupPlanned():
                    return results.take_planned(session, link, message)
                case BackupComplete():
                    return results.take_complete(session, link, message, kind)  # type: ignore[arg-type]
                case BackupFailed():
                    return results.take_failed(session, link, message, kind)  # type: ignore[arg-type]
                case _:
                    return results.take_result(session, link, message)

        return self.unit(work)  # type: ignore[no-any-return]

    def planned(self, link: Any = None, **more: Any) -> Job | None:
        counts: dict[str, Any] = {"total_files": 3, "total_bytes": 30}
        counts |= {"files": ("a",), "modifies": ()}
        return self.take(BackupPlanned(plan_id=self.plan_id, **counts, **more), link)

    def plan(self) -> BackupPlan:
        return self.unit(lambda session: plans.get(session, self.asset.id, self.plan_id)[1])  # type: ignore[no-any-return]

    def run(self) -> str:
        """Approve, and start; return the job's id."""

        def work(session: Session) -> str:
            _, plan = plans.get(session, self.asset.id, self.plan_id)
            plans.approve(session, self.who, plan, plan.version)
            return self.ask(session, requests.RUN).id

        job_id: str = self.unit(work)
        self.sent(job_id)
        return job_id

    def ask(self, session: Session, kind: str, key: str | None = None) -> Job:
        return self.hub.backups.submission.ask(
            session, self.who, self.asset.id, self.plan_id, kind, Timing(), key
        )


@pytest.fixture
def parts(hub: Hub, acme: Tenant) -> Parts:
    return Parts(hub, acme)


def complete(plan_id: str, **more: Any) -> BackupComplete:
    return BackupComplete(plan_id=plan_id, ok=True, ms=5, transferred_bytes=30, **more)


def test_plan_that_was_made_waits_for_approval_with_what_was_counted(parts: Parts) -> None:
    job = parts.planned(request_id=parts.job_id, job={"new": 2, "changed": "x", "folders": []})
    assert job is not None
    assert job.state == "succeeded"
    plan = parts.plan()
    assert (plan.state, plan.version, plan.found) == (
        "planned",
        1,
        {
            "total_files": 3, "total_bytes": 30, "files": ["a"], "modifies": [],
            "truncated": False, "new": 2, "folders": [],
        },
    )  # fmt: skip


def test_second_result_changes_nothing(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    with pytest.raises(DuplicateResultError):
        parts.planned(request_id=parts.job_id)
    with pytest.raises(DuplicateResultError):
        parts.planned(link=parts.foreign)
    assert parts.plan().version == 1


@pytest.mark.parametrize("request_id", [True, False])
def test_result_of_another_machine_is_refused_and_state_is_unchanged(
    parts: Parts, request_id: bool
) -> None:
    named = {"request_id": parts.job_id} if request_id else {}
    with pytest.raises(ForeignResultError):
        parts.planned(link=parts.other, **named)
    with pytest.raises(ForeignResultError):
        parts.take(complete(parts.plan_id, **named), parts.other)
    with pytest.raises(ForeignResultError):
        parts.take(BackupFailed(plan_id=parts.plan_id, error="x", **named), parts.other)
    with pytest.raises(ForeignResultError):
        parts.take(BackupResult(request_id=parts.job_id, ok=True), parts.other)
    assert parts.plan().state == "draft"


def test_result_of_a_job_of_another_kind_is_refused(parts: Parts) -> None:
    with pytest.raises(ForeignResultError):
        parts.take(complete(parts.plan_id, request_id=parts.job_id))


def test_foreign_agent_is_understood_by_its_plan_alone(parts: Parts) -> None:
    planned = parts.planned(link=parts.foreign)
    assert planned is not None
    assert planned.id == parts.job_id
    run_id = parts.run()
    ended = parts.take(complete(parts.plan_id), parts.foreign)
    assert ended is not None
    assert (ended.id, ended.state) == (run_id, "succeeded")
    with pytest.raises(DuplicateResultError):
        parts.take(complete(parts.plan_id), parts.foreign)


def test_partial_run_is_a_success_that_is_marked(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    run_id = parts.run()
    parts.take(complete(parts.plan_id, request_id=run_id, partial=True, errors=("no",)))
    plan = parts.plan()
    assert (plan.last_state, plan.success_ms is not None) == ("partial", True)
    asset = parts.unit(lambda session: session.get(Asset, parts.asset.id))
    assert (asset.last_backup_ok, asset.last_backup_ms) == (False, plan.last_ms)


def test_run_of_the_machines_own_schedule_becomes_a_job_that_has_ended(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    ended = parts.take(complete(parts.plan_id))
    assert ended is not None
    assert (ended.kind, ended.state, ended.created_name) == ("backup_run", "succeeded", "schedule")
    failed = parts.take(BackupFailed(plan_id=parts.plan_id, error="no_space", detail="full\0"))
    assert failed is not None
    plan = parts.plan()
    assert (plan.last_state, plan.last_error, plan.last_detail) == ("failed", "no_space", "full ")


def test_machine_that_calls_a_backup_late_is_believed_until_it_is_complete(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    parts.unit(lambda session: setattr(plans.find(session, parts.plan_id), "is_late", True))
    parts.take(complete(parts.plan_id, partial=True))
    assert parts.plan().is_late
    parts.take(complete(parts.plan_id))
    assert not parts.plan().is_late


def test_second_start_at_the_agent_says_nothing_of_the_run_that_goes_on(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    run_id = parts.run()
    answer = BackupResult(request_id=run_id, plan_id=parts.plan_id, ok=False,
                          error="already_running")  # fmt: skip
    job = parts.take(answer)
    assert job is not None
    assert (job.state, job.error) == ("failed", "already_running")
    assert parts.plan().last_state is None


def test_cancel_of_what_the_agent_no_longer_has_ends_as_unknown(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    run_id = parts.run()
    taken = BackupResult(request_id=f"cancel:{run_id}", ok=True)
    assert parts.take(taken) is None
    answer = BackupResult(request_id=f"cancel:{run_id}", ok=False, error="not_running")
    job = parts.take(answer)
    assert job is not None
    assert (job.state, parts.plan().last_state) == ("unknown", "unknown")


@pytest.mark.parametrize("ok", [True, False])
def test_schedules_are_what_the_machine_has_not_what_was_asked_of_it(
    parts: Parts, ok: bool
) -> None:
    """It keeps its own, and may refuse."""
    parts.planned(request_id=parts.job_id)

    def ask(session: Session) -> str:
        _, plan = plans.get(session, parts.asset.id, parts.plan_id)
        plans.approve(session, parts.who, plan, None)
        wanted = SchedulesIn(schedules=[ScheduleIn(id="a", plan_id=plan.id, cron="0 3 * * *")])
        submit = parts.hub.backups.submission.set_schedules
        return submit(session, parts.who, parts.asset.id, wanted, None).id

    job_id = parts.unit(ask)
    parts.sent(job_id)
    own = Schedule(id="own", plan_id=parts.plan_id, cron="0 4 * * *", tz="UTC", enabled=True)
    error = None if ok else "bad_schedule"
    parts.take(BackupResult(request_id=job_id, ok=ok, error=error, schedules=(own,)))
    row = parts.unit(lambda session: plans.schedules_of(session, parts.asset.id))
    assert [one["id"] for one in row.schedules] == ["own"]
    assert parts.plan().overdue_ms is not None


def test_only_one_thing_at_a_time_is_done_for_a_plan(parts: Parts) -> None:
    with pytest.raises(ConflictError) as caught:
        parts.unit(lambda session: parts.ask(session, requests.PLAN))
    assert caught.value.code == "already_running"
    parts.planned(request_id=parts.job_id)
    with pytest.raises(ConflictError) as caught:
        parts.unit(lambda session: parts.ask(session, requests.RUN))
    assert caught.value.code == "not_approved"


def test_planning_anew_takes_the_approval_back(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    run_id = parts.run()
    parts.take(complete(parts.plan_id, request_id=run_id))
    again = parts.unit(lambda session: parts.ask(session, requests.PLAN).id)
    parts.sent(again)
    parts.planned(request_id=again)
    plan = parts.plan()
    assert (plan.state, plan.version, plan.approved_by) == ("planned", 2, None)


def test_approval_of_a_version_that_is_gone_is_refused(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)

    def work(session: Session) -> None:
        _, plan = plans.get(session, parts.asset.id, parts.plan_id)
        plans.approve(session, parts.who, plan, 7)

    with pytest.raises(ConflictError) as caught:
        parts.unit(work)
    assert caught.value.code == "changed"


def test_what_the_policy_denies_is_not_sent_and_ends_with_the_reason(parts: Parts) -> None:
    from hub.policy import service as policy
    from hub.policy.document import PolicyDocument

    parts.planned(request_id=parts.job_id)
    document = PolicyDocument(profile="reporter")
    parts.unit(lambda session: policy.replace(session, parts.who, parts.tenant.id, document, None))

    def work(session: Session) -> Job:
        _, plan = plans.get(session, parts.asset.id, parts.plan_id)
        plans.approve(session, parts.who, plan, None)
        return parts.ask(session, requests.RUN)

    job = parts.unit(work)
    assert (job.state, job.error) == ("failed", "policy_denied")
    assert "reporter" in job.result["detail"]


def test_messages_are_exactly_the_plans_fields_and_plain_for_a_foreign_agent(parts: Parts) -> None:
    parts.planned(request_id=parts.job_id)
    run_id = parts.run()
    job = parts.unit(lambda session: jobs_service.get(session, run_id))
    [message] = requests.messages(job, frozenset(FEATURES))
    assert message == BackupStart(
        plan_id=parts.plan_id, source_dirs=("/srv/a",), dest_root="/mnt/b", host="nas", user="u",
        port=2222, ignore_globs=(), request_id=run_id,
    )  # fmt: skip
    [plain] = requests.messages(job, None)
    told = for_peer(plain, None)
    assert isinstance(told, BackupStart)
    assert (told.request_id, told.layout) == (None, None)
    assert type(told) is TABLE[Direction.TO_AGENT]["backup_start"]


def test_progress_of_another_machine_is_not_written_at_this_plan(parts: Parts) -> None:
    word = progress.view(
        BackupProgress(plan_id=parts.plan_id, file="a", op="copy", percent=140.0,
                       transferred_bytes=1, total_bytes=2, files_completed=0)
    )  # fmt: skip
    assert word["percent"] == 100.0
    parts.unit(lambda session: progress.store(session, parts.other, parts.plan_id, word))  # type: ignore[arg-type]
    assert parts.plan().progress is None
    running = parts.unit(
        lambda session: progress.store(session, parts.link, parts.plan_id, word)  # type: ignore[arg-type]
    )
    assert [job.id for job in running] == [parts.job_id]
    assert parts.plan().progress is not None


def test_plan_of_another_tenant_does_not_exist(parts: Parts, hub: Hub, people: Any) -> None:
    other = people.tenant("other")

    def work(session: Session) -> None:
        assert plans.find(session, parts.plan_id) is None
        agents.add_asset(session, other.id, "x")

    hub.database.write_now(other.id, work)
