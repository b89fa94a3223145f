"""The queue of runs: what waits is handed to its machine when there is a link, in order, once.

Rules: on the server's loop; the database is asked in units of work. One task at a time hands out
for a machine, so that its jobs leave in order, and each machine has its own, so that none waits for
another; at most `WINDOW` jobs of a machine are on their way or running. A job is `sent` in the
database before it is sent on the link: whatever breaks in between, it is not sent a second time.
Only a link that refuses a message outright gives the job back.
Source: contract 1.7; fault cases B, C; product "Complaints".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.models import Asset
from hub.authorize import Principal
from hub.db.database import Database
from hub.errors import BadRequestError, ConflictError, HubError, UnavailableError
from hub.jobs import service, sweeps
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.ports import Console, Later, Link, Links
from hub.jobs.service import Order
from hub.jobs.states import IN_FLIGHT, OPEN, State
from hub.jobs.views import JobOut

WINDOW = 8
SWEEP_S = 1.0
_log = structlog.get_logger()


class Jobs:
    """See the module.

    Args:
        later: runs a coroutine on the side.
    """

    def __init__(
        self,
        database: Database,
        links: Links,
        console: Console,
        later: Later,
    ) -> None:
        self.database = database
        self.links = links
        self._console = console
        self._later = later
        self._kinds: dict[str, JobKind] = {}
        self._handing_out: set[str] = set()
        self._again: set[str] = set()
        self._sent: dict[str, tuple[Link, set[str]]] = {}

    # -- for the families ----------------------------------------------------------------------

    def register(self, kind: JobKind) -> None:
        """Bring a kind of job."""
        assert kind.name not in self._kinds, kind.name
        self._kinds[kind.name] = kind

    def kind(self, name: str) -> JobKind | None:
        """Return a kind; None: of a release that knew more."""
        return self._kinds.get(name)

    def submit(
        self, session: Session, who: Principal, asset: Asset, kind: str, order: Order
    ) -> tuple[Job, bool]:
        """Put a job into the queue, in the caller's unit; `announce` and `kick` after its commit.

        Raises:
            UnavailableError: `agent_offline`; ConflictError: `idempotency_mismatch`.
        """
        is_online = self.links.of(asset.id) is not None
        return service.submit(session, who, asset, self._kinds[kind], order, is_online=is_online)

    async def start(self, who: Principal, asset_id: str, kind: str, order: Order) -> Job:
        """Put a job into the queue and hand it out.

        Raises:
            NotFoundError: no such machine for the caller; and as `submit` does.
        """

        def unit(session: Session) -> Job:
            asset = agents.get_asset(session, asset_id)
            return self.submit(session, who, asset, kind, order)[0]

        job = await self.database.write(who.scope, unit)
        self.changed(job)
        return job

    def changed(self, *jobs: Job) -> None:
        """Tell whoever watches, and hand out what there is room for now."""
        for job in jobs:
            self._tell(job)
            if job.state not in OPEN:
                self._ended(job)
            self.kick(job.asset_id)

    async def cancel(self, who: Principal, job_id: str) -> Job:
        """End a job: at once while it is queued, else by asking its agent, now or when it is back.

        Raises:
            NotFoundError; ConflictError: `already_ended`, `not_cancellable`.
        """
        job = await self.database.write(
            who.scope, service.request_cancel, who, job_id, self._may_cancel
        )
        self.changed(job)
        link = self.links.of(job.asset_id)
        if job.state in IN_FLIGHT and link is not None:
            self.ask_to_end(job, link)
        return job

    def ask_to_end(self, job: Job, link: Link) -> None:
        """Ask an agent to end a job; a link that goes meanwhile is asked again when it is back."""
        kind = self._kinds.get(job.kind)
        if kind is not None and kind.cancel is not None:
            with suppress(UnavailableError):
                kind.cancel(job, link)

    # -- handing out ---------------------------------------------------------------------------

    def kick(self, asset_id: str) -> None:
        """Hand out what waits for a machine, as far as there is a link and room."""
        if asset_id in self._handing_out:
            self._again.add(asset_id)
        elif self.links.of(asset_id) is not None:
            self._handing_out.add(asset_id)
            self._later(self._hand_out(asset_id))

    def sent_over(self, link: Link) -> set[str]:
        """Return the jobs that were sent over this very link."""
        known, ids = self._sent.get(link.asset_id, (None, set()))
        return ids if known is link else set()

    async def _hand_out(self, asset_id: str) -> None:
        try:
            more = True
            while more:
                self._again.discard(asset_id)
                more = await self._hand_out_some(asset_id) or asset_id in self._again
        except HubError as error:
            # The next sweep tries again.
            _log.warning("jobs are not handed out", asset_id=asset_id, error=error.code)
        finally:
            self._handing_out.discard(asset_id)
            self._again.discard(asset_id)

    async def _hand_out_some(self, asset_id: str) -> bool:
        link = self.links.of(asset_id)
        if link is None:
            return False
        jobs = await self.database.write(
            link.tenant_id, service.claim, asset_id, link.agent_id, WINDOW
        )
        for place, job in enumerate(jobs):
            if not await self._send(job):
                await self._take_back(jobs[place:])
                return False
        return bool(jobs)

    async def _send(self, job: Job) -> bool:
        """Send one job; False: there is no link to send it over, and nothing of it was sent."""
        link = self.links.of(job.asset_id)
        if link is None:
            return False
        sent = 0
        self._note(link, job.id)
        try:
            for message in self._messages(job, link):
                await self.links.send(job.asset_id, message)
                sent += 1
        except UnavailableError:
            if sent == 0:
                self.sent_over(link).discard(job.id)
                return False
        except (BadRequestError, ConflictError) as error:
            await self._fail(job, error.code)
            return True
        self._tell(job)
        return True

    def _tell(self, job: Job) -> None:
        view = JobOut.of(job).model_dump()
        topics = [f"job:{job.id}", f"agent:{job.asset_id}"]
        for topic in [*topics, *([f"batch:{job.batch_id}"] if job.batch_id else [])]:
            self._console.publish(job.tenant_id, topic, "job", view)

    def _ended(self, job: Job) -> None:
        _, ids = self._sent.get(job.asset_id, (None, set()))
        ids.discard(job.id)
        kind = self._kinds.get(job.kind)
        if kind is not None and kind.ended is not None:
            kind.ended(job)

    def _messages(self, job: Job, link: Link) -> list[Any]:
        kind = self._kinds.get(job.kind)
        if kind is None:
            raise ConflictError(code="unsupported")
        return list(kind.messages(job, link.features))

    async def _take_back(self, jobs: list[Job]) -> None:
        """Let them wait for the next link, or the next sweep."""
        ids = [job.id for job in jobs]
        for job in await self.database.write(jobs[0].tenant_id, service.release, ids):
            self._tell(job)

    async def _fail(self, job: Job, error: str) -> None:
        def unit(session: Session) -> Job | None:
            return service.finish(session, job.id, State.FAILED, error=error)

        ended = await self.database.write(job.tenant_id, unit)
        if ended is not None:
            self.changed(ended)

    def _note(self, link: Link, job_id: str) -> None:
        known, ids = self._sent.get(link.asset_id, (None, set()))
        if known is not link:
            ids = set()
            self._sent[link.asset_id] = (link, ids)
        ids.add(job_id)

    def _may_cancel(self, job: Job) -> bool:
        kind = self._kinds.get(job.kind)
        if kind is None or kind.cancel is None:
            return False
        link = self.links.of(job.asset_id)
        return link is None or kind.may_cancel(link.features)

    # -- by itself -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except HubError as error:
                _log.warning("the queue of jobs is not swept", error=error.code)

    async def sweep(self) -> None:
        """End what is due, and hand out what another process may have put into the queue."""
        self.changed(*await self.database.write(None, sweeps.sweep))
        for asset_id in await self.database.read(None, sweeps.waiting_assets):
            self.kick(asset_id)
