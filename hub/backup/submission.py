"""Work for a plan into the queue: one thing at a time, only what was approved and is allowed.

Rules: one unit of work. A second request while one is under way is `already_running`; the same
idempotency key gives the same job. What the tenant's policy denies becomes a job that has ended.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.admin.requests import Timing
from hub.agents import service as agents
from hub.agents.models import Asset
from hub.authorize import Principal
from hub.backup import plans, requests
from hub.backup import schedules as cron
from hub.backup.models import BackupPlan
from hub.backup.requests import PlanIn, SchedulesIn
from hub.errors import BadRequestError, ConflictError
from hub.jobs import service as jobs_service
from hub.jobs.models import Job
from hub.jobs.queue import Jobs
from hub.jobs.service import Order
from hub.policy import service as policy

NEEDS_APPROVAL = (requests.RUN,)


class Submission:
    """See the module."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def add(
        self, session: Session, who: Principal, asset_id: str, asked: PlanIn, key: str | None
    ) -> tuple[BackupPlan, Job]:
        """Make a plan, and ask the machine what a run would do.

        Raises:
            NotFoundError: no such machine; and as `Jobs.submit` does.
        """
        asset = agents.get_asset(session, asset_id)
        known = jobs_service.of_key(session, who, key)
        plan = _same(session, asset, asked, known) or plans.add(session, who, asset, asked)
        if known is not None:
            return plan, known
        return plan, self.put(session, who, asset, plan, requests.PLAN, {}, asked, key)

    def ask(
        self,
        session: Session,
        who: Principal,
        asset_id: str,
        plan_id: str,
        kind: str,
        asked: Timing,
        key: str | None,
    ) -> Job:
        """Ask for something to be done for a plan.

        Raises:
            NotFoundError; ConflictError: `not_approved`, `already_running`, `idempotency_mismatch`.
        """
        asset, plan = plans.get(session, asset_id, plan_id)
        more = asked.model_dump(exclude={"when_offline", "expires_in"}, exclude_none=True)
        return self.put(session, who, asset, plan, kind, more, asked, key)

    def put(
        self,
        session: Session,
        who: Principal,
        asset: Asset,
        plan: BackupPlan,
        kind: str,
        more: dict[str, Any],
        timing: Timing,
        key: str | None,
    ) -> Job:
        plans.lock(session, plan)
        if kind in NEEDS_APPROVAL and plan.state != "approved":
            raise ConflictError("somebody who may has to approve it first", code="not_approved")
        if kind in requests.EXCLUSIVE:
            _refuse_second(session, plan, key)
        same = plans.fields(plan) if kind in (requests.PLAN, requests.RUN) else {}
        return self._submit(session, who, asset, kind, {"plan_id": plan.id, **same, **more}, timing,
                            key)  # fmt: skip

    def schedules(
        self, session: Session, who: Principal, asset_id: str, timing: Timing, key: str | None
    ) -> Job:
        """Ask a machine what it runs by itself."""
        asset = agents.get_asset(session, asset_id)
        return self._submit(session, who, asset, requests.SCHEDULES, {}, timing, key)

    def set_schedules(
        self, session: Session, who: Principal, asset_id: str, asked: SchedulesIn, key: str | None
    ) -> Job:
        """Replace what a machine runs by itself.

        Raises:
            NotFoundError; BadRequestError: `bad_schedule`; ConflictError: `not_approved`.
        """
        asset = agents.get_asset(session, asset_id)
        wanted = [one.model_dump() for one in asked.schedules]
        _check_schedules(session, asset, wanted)
        request = {"schedules": wanted}
        return self._submit(session, who, asset, requests.SCHEDULE, request, asked, key)

    def _submit(
        self,
        session: Session,
        who: Principal,
        asset: Asset,
        kind: str,
        request: dict[str, Any],
        timing: Timing,
        key: str | None,
    ) -> Job:
        order = Order(
            request=request,
            timeout_s=requests.TIMEOUTS_S[kind],
            when_offline=timing.when_offline,
            expires_in_s=timing.expires_in,
            idempotency_key=key,
        )
        why = policy.refusal(session, asset, "backup")
        if why is None:
            return self._jobs.submit(session, who, asset, kind, order)[0]
        found = self._jobs.kind(kind)
        assert found is not None
        denied = "policy_denied"
        return jobs_service.submit_ended(session, who, asset, found, order, denied, {"detail": why})


def _same(session: Session, asset: Asset, asked: PlanIn, known: Job | None) -> BackupPlan | None:
    """Return the plan that the same key has made before.

    Raises:
        ConflictError: `idempotency_mismatch`.
    """
    if known is None:
        return None
    plan = plans.find(session, known.request.get("plan_id", ""))
    is_same = known.kind == requests.PLAN and known.asset_id == asset.id
    if plan is None or not is_same or plans.fields(plan) != plans.fields_of(asked):
        raise ConflictError(
            "this idempotency key came with another request", code="idempotency_mismatch"
        )
    return plan


def _refuse_second(session: Session, plan: BackupPlan, key: str | None) -> None:
    job = plans.open_job(session, plan.asset_id, plan.id)
    if job is not None and (key is None or job.idempotency_key != key):
        raise ConflictError(
            "something is being done for this backup already", code="already_running", job_id=job.id
        )


def _check_schedules(session: Session, asset: Asset, wanted: list[dict[str, Any]]) -> None:
    row = plans.schedules_of(session, asset.id)
    known = {one["id"]: one["plan_id"] for one in (row.schedules if row is not None else ())}
    approved = {plan.id for plan in plans.of_asset(session, asset.id) if plan.state == "approved"}
    if len({one["id"] for one in wanted}) < len(wanted):
        raise BadRequestError("each schedule has an id of its own", code="bad_schedule")
    for one in wanted:
        why = cron.fault(one["cron"], one["tz"])
        if why is not None:
            raise BadRequestError(why, code="bad_schedule")
        if one["plan_id"] not in approved and known.get(one["id"]) != one["plan_id"]:
            raise ConflictError(f"{one['id']}: its backup is not approved", code="not_approved")
