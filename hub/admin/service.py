"""The family, put together: commands as jobs, their live output, their results, their end.

Rules: a kind whose message is a command registers here (`add_kind`) and is told of its results in
the same unit of work; who may, and what the tenant allows, has been asked before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from sqlalchemy.orm import Session

from hub.admin import requests, results
from hub.admin.cancelling import Cancelling
from hub.admin.live import LiveOutput
from hub.admin.submission import Submission
from hub.agents.inbox import After, Inbox
from hub.agents.links import Link, Links
from hub.errors import HubError
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.queue import Jobs
from hub.jobs.reconciliation import Reconciliation
from hub.keyring import Keyring
from wire import features
from wire.admin import AdminCredit, AdminOutput, AdminResult
from wire.workers import Workers

ADMIN = "admin"
LOOK_S = 1.0
OnResult = Callable[[Session, Job, AdminResult], None]


class Admin:
    """See the module."""

    def __init__(
        self,
        keyring: Keyring,
        links: Links,
        inbox: Inbox,
        jobs: Jobs,
        reconciliation: Reconciliation,
        later: Callable[[Coroutine[Any, Any, Any]], None],
    ) -> None:
        self.keyring = keyring
        self.live = LiveOutput(self._grant)
        self.submission = Submission(jobs, keyring)
        self._links = links
        self._jobs = jobs
        self._reconciliation = reconciliation
        self._later = later
        self._cancelling = Cancelling(links)
        self._kinds: dict[str, OnResult | None] = {}
        self.add_kind(ADMIN, "admin.run")
        inbox.live(AdminOutput, self._on_output)
        inbox.live(Workers, self._cancelling.on_workers)
        inbox.final(AdminResult, self._on_result)

    def add_kind(self, name: str, action: str, on_result: OnResult | None = None) -> None:
        """Bring a kind of job whose message is a command.

        Args:
            on_result: called in the unit that stores a result.
        """
        self._kinds[name] = on_result
        kind = JobKind(
            name=name,
            action=action,
            messages=lambda job, peer: [requests.run_of(self.keyring, job, peer)],
            listed_as=lambda job: job.id,
            cancel=lambda job, link: self._later(self._cancelling.ask(job.id, link)),  # type: ignore[arg-type]
            may_cancel=lambda peer: features.WORKERS in (peer or ()),
            told=requests.told,
            ended=self._ended,
        )
        self._jobs.register(kind)

    async def run(self) -> None:
        """Look after whoever watches, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.live.look()

    def _on_output(self, link: Link, message: AdminOutput) -> None:
        is_sent = message.job_id in self._jobs.sent_over(link)
        if is_sent or any(state.id == message.job_id for state in link.jobs):
            self.live.on_output(link, message)

    def _on_result(self, session: Session, link: Link, message: AdminResult) -> After:
        job = results.find_job(session, link, message, frozenset(self._kinds))
        ended = results.take(session, link, job, message)
        on_result = self._kinds[job.kind]
        if on_result is not None:
            on_result(session, ended, message)

        def after() -> None:
            self._reconciliation.heard(link)
            self._jobs.changed(ended)

        return after

    def _ended(self, job: Job) -> None:
        self.live.ended((job.asset_id, job.id))
        self._cancelling.ended(job.id)

    def _grant(self, link: Link, credit: AdminCredit) -> None:
        with suppress(HubError):
            self._links.send_nowait(link, credit)
