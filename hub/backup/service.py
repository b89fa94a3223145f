"""The family, put together: kinds of jobs, what agents say, what is noted when a job ends.

Rules: finals and the ends of jobs change rows in a unit of work; the loop only keeps the newest
progress. A scheduled run is sent by an agent of ours without anybody's request.
Source: contract 1.5, 1.7 `backup2`; fault cases B, C, H.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog
from sqlalchemy.orm import Session

from hub.agents.inbox import After, Inbox
from hub.agents.links import Link, Links
from hub.backup import plans, requests, results
from hub.backup.models import BackupPlan
from hub.backup.progress import Progress, store
from hub.backup.submission import Submission
from hub.db.database import Database
from hub.errors import HubError
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.queue import Jobs
from hub.jobs.reconciliation import Reconciliation
from hub.jobs.states import IN_FLIGHT, State
from hub.sockets.console import Console
from wire import features
from wire.backup import (
    BackupCancel,
    BackupComplete,
    BackupFailed,
    BackupPlanned,
    BackupProgress,
    BackupResult,
)
from wire.telemetry import Stats

ACTIONS = {
    requests.PLAN: "backup.plan",
    requests.RUN: "backup.run",
    requests.VERIFY: "backup.run",
    requests.RESTORE: "backup.restore",
    requests.LS: "backup.plan",
    requests.PRUNE: "backup.run",
    requests.SCHEDULES: "backup.plan",
    requests.SCHEDULE: "backup.run",
}
_ON_WIRE = {requests.VERIFY: "verify", requests.RESTORE: "restore", requests.LS: "ls",
            requests.PRUNE: "prune"}  # fmt: skip
_log = structlog.get_logger()
Final = Callable[[Session, Link, Any], Job | None]


class Backups:
    """See the module."""

    def __init__(
        self,
        database: Database,
        links: Links,
        inbox: Inbox,
        console: Console,
        jobs: Jobs,
        reconciliation: Reconciliation,
        later: Callable[[Coroutine[Any, Any, Any]], None],
    ) -> None:
        self._database = database
        self._links = links
        self._console = console
        self._jobs = jobs
        self._reconciliation = reconciliation
        self._later = later
        self._late: dict[str, frozenset[str]] = {}
        self._noting: set[str] = set()
        self._writing: set[str] = set()
        self.submission = Submission(jobs)
        self.progress = Progress(self._tell, self._write)
        for name, action in ACTIONS.items():
            jobs.register(self._kind(name, action))
        inbox.live(BackupProgress, self.progress.on_progress)
        inbox.live(Stats, self._on_stats)
        inbox.final(BackupPlanned, self._taking(results.take_planned))
        inbox.final(BackupComplete, self._taking(self._complete))
        inbox.final(BackupFailed, self._taking(self._failed))
        inbox.final(BackupResult, self._taking(results.take_result))
        inbox.unlinked(self._on_unlinked)

    def _kind(self, name: str, action: str) -> JobKind:
        is_plans_own = name in requests.EXCLUSIVE
        return JobKind(
            name=name,
            action=action,
            messages=requests.messages,
            listed_as=listed_as if name not in (requests.SCHEDULES, requests.SCHEDULE) else None,
            cancel=self._cancel if is_plans_own else None,
            may_cancel=lambda peer: features.BACKUP2 in (peer or ()),
            told=requests.told,
            ended=self._ended,
        )

    def changed(self, plan: BackupPlan) -> None:
        """Tell whoever watches that a plan is not what it was."""
        topic = f"agent:{plan.asset_id}"
        self._console.publish(plan.tenant_id, topic, "backup", {"plan_id": plan.id})

    # -- what agents say -----------------------------------------------------------------------

    def _taking(self, take: Final) -> Callable[[Session, Link, Any], After]:
        def handler(session: Session, link: Link, message: Any) -> After:
            ended = take(session, link, message)

            def after() -> None:
                self._reconciliation.heard(link)
                if ended is not None:
                    self._jobs.changed(ended)

            return after

        return handler

    def _complete(self, session: Session, link: Link, message: BackupComplete) -> Job:
        return results.take_complete(session, link, message, self._run_kind)

    def _failed(self, session: Session, link: Link, message: BackupFailed) -> Job:
        return results.take_failed(session, link, message, self._run_kind)

    @property
    def _run_kind(self) -> JobKind:
        kind = self._jobs.kind(requests.RUN)
        assert kind is not None
        return kind

    def _on_stats(self, link: Link, message: Stats) -> None:
        """A machine says which of its plans have had no success for too long."""
        if features.BACKUP2 not in (link.features or ()):
            return
        late = frozenset(message.overdue_backups or ())
        if self._late.get(link.asset_id) != late:
            self._late[link.asset_id] = late
            if link.asset_id not in self._noting:
                self._noting.add(link.asset_id)
                self._later(self._note_late(link))

    async def _note_late(self, link: Link) -> None:
        """Note the newest word, and no more than one at a time of a machine that says many."""
        noted: frozenset[str] | None = None
        try:
            while (late := self._late.get(link.asset_id)) not in (None, noted):
                noted = late
                await self._on_the_side(link.tenant_id, partial(_late_ones, link.asset_id, late))
        finally:
            self._noting.discard(link.asset_id)

    def _on_unlinked(self, link: Link) -> None:
        if self._links.of(link.asset_id) in (None, link):
            self.progress.unlinked(link)
            self._late.pop(link.asset_id, None)

    # -- progress ------------------------------------------------------------------------------

    def _tell(self, link: Link, payload: dict[str, Any]) -> None:
        self._console.publish(link.tenant_id, f"agent:{link.asset_id}", "backup", payload)

    def _write(self, link: Link, plan_id: str, word: dict[str, Any]) -> None:
        if link.asset_id in self._writing:
            return  # a later word is written
        self._writing.add(link.asset_id)

        async def written() -> None:
            try:
                running = await self._on_the_side(
                    link.tenant_id, lambda session: store(session, link, plan_id, word)
                )
            finally:
                self._writing.discard(link.asset_id)
            self._jobs.changed(*(running or ()))

        self._later(written())

    # -- ends ----------------------------------------------------------------------------------

    def _cancel(self, job: Job, link: Any) -> None:
        message = BackupCancel(plan_id=job.request["plan_id"], request_id=results.CANCEL + job.id)
        self._links.send_nowait(link, message)

    def _ended(self, job: Job) -> None:
        plan_id = job.request.get("plan_id")
        if plan_id is None:
            return
        if job.kind in requests.EXCLUSIVE:
            self.progress.ended(job.asset_id, plan_id)
        if job.state != State.SUCCEEDED:
            self._later(self._note_end(job.id, job.tenant_id))
        payload = {"plan_id": plan_id, "job_id": job.id}
        self._console.publish(job.tenant_id, f"agent:{job.asset_id}", "backup", payload)

    async def _note_end(self, job_id: str, tenant_id: str) -> None:
        """Let the plan know of an end that no machine has told: expiry, a deadline, a refusal."""

        def unit(session: Session) -> None:
            job = session.get(Job, job_id)
            plan = plans.find(session, job.request["plan_id"]) if job is not None else None
            if job is not None and plan is not None:
                detail = (job.result or {}).get("detail")
                results.note_end(session, plan, job, detail)

        await self._on_the_side(tenant_id, unit)

    async def _on_the_side(self, tenant_id: str, unit: Callable[[Session], Any]) -> Any:
        try:
            return await self._database.write(tenant_id, unit)
        except HubError as error:
            _log.warning("a backup's state is not written", error=error.code)
            return None


def _late_ones(asset_id: str, late: frozenset[str], session: Session) -> None:
    for plan in plans.of_asset(session, asset_id):
        plan.is_late = plan.id in late


def listed_as(job: Job) -> str:
    """Return what an agent calls a job; one that was never sent is none of its."""
    plan_id = str(job.request["plan_id"])
    if job.state not in IN_FLIGHT:
        return f"queued:{job.id}"
    name = _ON_WIRE.get(job.kind)
    return plan_id if name is None else f"{plan_id}/{name}/{job.id}"
