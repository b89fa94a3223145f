"""After a link: what the machine still has, against what the hub believes of it.

Rules: what the machine lists is running, whatever the hub remembers. What the hub sent over an
earlier link and the machine does not list has either ended, and then its result comes out of the
machine's outbox first thing, or is lost: when nothing has come for `QUIET_S`, it is
`unknown_outcome`. It is never sent again. A foreign agent lists nothing: its results come, or the
deadline does. Asking for an end is repeated, since the first time may not have arrived.
Source: contract 1.7 ("the hub ends what the agent no longer has"); fault cases C.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.batches import Batches
from hub.errors import HubError
from hub.jobs import service, sweeps
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.ports import Inbox, Later, Link
from hub.jobs.queue import Jobs
from hub.jobs.states import OPEN, State
from wire import features

QUIET_S = 10.0
GATHER_S = 0.02
_log = structlog.get_logger()


@dataclass(frozen=True)
class Findings:
    """What a comparison found."""

    running: list[Job] = field(default_factory=list)
    unlisted: list[Job] = field(default_factory=list)
    to_end: list[Job] = field(default_factory=list)


class Reconciliation:
    """See the module."""

    def __init__(self, jobs: Jobs, inbox: Inbox, later: Later, quiet_s: float = QUIET_S) -> None:
        self._jobs = jobs
        self._quiet_s = quiet_s
        self._heard_s: dict[str, float] = {}
        self._open = Batches[str, bool](self._have_open, GATHER_S)
        inbox.linked(lambda link: later(self.linked(link)))
        inbox.unlinked(self.unlinked)

    def heard(self, link: Link) -> None:
        """A result has come over a link: there may be more behind it."""
        self._heard_s[link.asset_id] = time.monotonic()

    def unlinked(self, link: Link) -> None:
        """A link is gone."""
        if self._jobs.links.of(link.asset_id) in (None, link):
            self._heard_s.pop(link.asset_id, None)

    async def linked(self, link: Link) -> None:
        """Compare, and hand out what waits."""
        self.heard(link)
        try:
            if not await self._open.ask(link.asset_id):
                return  # what is asked for from here on finds the link
            found = await self._jobs.database.write(link.tenant_id, compare, link, self._jobs.kind)
            self._jobs.changed(*found.running)
            for job in found.to_end:
                self._jobs.ask_to_end(job, link)
            self._jobs.kick(link.asset_id)
            await self._end_lost(link, [job.id for job in found.unlisted])
        except HubError as error:
            # The next link, or the deadline.
            _log.warning("jobs are not compared", asset_id=link.asset_id, error=error.code)

    async def _have_open(self, asset_ids: list[str]) -> list[bool]:
        found = await self._jobs.database.read(None, with_open_jobs, asset_ids)
        return [asset_id in found for asset_id in asset_ids]

    async def _end_lost(self, link: Link, unlisted: list[str]) -> None:
        while unlisted and self._jobs.links.of(link.asset_id) is link:
            quiet_s = time.monotonic() - self._heard_s.get(link.asset_id, 0.0)
            if quiet_s < self._quiet_s:
                await asyncio.sleep(self._quiet_s - quiet_s)
                continue
            lost = [one for one in unlisted if one not in self._jobs.sent_over(link)]
            ended = await self._jobs.database.write(link.tenant_id, sweeps.end_missing, lost)
            self._jobs.changed(*ended)
            return


def with_open_jobs(session: Session, asset_ids: list[str]) -> set[str]:
    """Return which machines have a job that has not ended: few of those that come back at once."""
    query = select(Job.asset_id).where(Job.asset_id.in_(asset_ids), Job.state.in_(OPEN))
    return set(session.scalars(query.distinct()))


def compare(session: Session, link: Link, kind_of: Callable[[str], JobKind | None]) -> Findings:
    """Note what a machine lists, and find what it does not."""
    listed = {state.id: state.state for state in link.jobs}
    found = Findings()
    running: list[str] = []
    query = select(Job).where(Job.asset_id == link.asset_id, Job.state.in_(OPEN)).order_by(Job.seq)
    for job in session.scalars(query):
        kind = kind_of(job.kind)
        if kind is None or kind.listed_as is None:
            continue
        name = kind.listed_as(job)
        if name in listed:
            running.append(job.id)
            if job.cancel_ms is not None:
                found.to_end.append(job)
        elif job.state != State.QUEUED and features.ACK in (link.features or ()):
            found.unlisted.append(job)
    found.running.extend(service.mark_running(session, running, link.agent_id))
    return found
