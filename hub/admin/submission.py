"""Commands into the queue: one machine or many, each asked of the tenant's policy first.

Rules: one unit of work: with one machine that the caller may not see, nothing is done at all. What
the policy denies becomes a job, too: ended, with the code and the sentence that the machine itself
would have answered, and nothing is sent.
Source: fault cases B ("batch of 10 ids, one foreign", "a deny from either side wins").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.admin import requests
from hub.admin.requests import AdminIn
from hub.agents import service as agents
from hub.agents.models import Asset
from hub.authorize import Principal
from hub.errors import ConflictError, NotFoundError
from hub.ids import new_id
from hub.jobs import service as jobs_service
from hub.jobs.models import Job
from hub.jobs.queue import Jobs
from hub.jobs.service import Order
from hub.jobs.states import State
from hub.keyring import Keyring
from hub.policy import service as policy
from hub.policy.verdicts import CRON_FORM

DENIED = 126
RERUN = (State.FAILED, State.EXPIRED, State.CANCELLED)


class Submission:
    """See the module."""

    def __init__(self, jobs: Jobs, keyring: Keyring) -> None:
        self._jobs = jobs
        self._keyring = keyring

    def one(
        self, session: Session, who: Principal, asset_id: str, asked: AdminIn, key: str | None
    ) -> Job:
        """Put one command into the queue.

        Raises:
            NotFoundError: no such machine; and as `Jobs.submit` does.
        """
        asset = agents.get_asset(session, asset_id)
        order = requests.order_of(self._keyring, asked, key=key)
        return self.put(session, who, asset, "admin", order)

    def many(
        self,
        session: Session,
        who: Principal,
        asset_ids: Sequence[str],
        asked: AdminIn,
        key: str | None,
    ) -> tuple[str, list[Job]]:
        """Put one command into the queues of several machines; return the batch's id.

        Raises:
            NotFoundError: one of them is not the caller's; nothing is done.
        """
        assets = [agents.get_asset(session, one) for one in dict.fromkeys(asset_ids)]
        batch_id = new_id() if key is None else _batch_of(who, key)
        made = []
        for asset in assets:
            order = requests.order_of(self._keyring, asked, batch_id=batch_id, key=key)
            made.append(self.put(session, who, asset, "admin", _for_asset(order, asset)))
        return batch_id, made

    def again(
        self, session: Session, who: Principal, batch_id: str, states: Sequence[State] = RERUN
    ) -> tuple[str, list[Job]]:
        """Ask once more for what failed in a batch, as a batch of its own.

        Raises:
            NotFoundError: no such batch; ConflictError: nothing in it has failed.
        """
        jobs = list(session.scalars(select(Job).where(Job.batch_id == batch_id).order_by(Job.id)))
        if not jobs:
            raise NotFoundError("there is no such batch")
        chosen = [job for job in jobs if job.state in states]
        if not chosen:
            raise ConflictError("nothing in this batch has failed", code="nothing_failed")
        fresh = new_id()
        return fresh, [self._repeat(session, who, job, fresh) for job in chosen]

    def put(
        self,
        session: Session,
        who: Principal,
        asset: Asset,
        kind: str,
        order: Order,
        judged: str | None = None,
    ) -> Job:
        """Ask the policy, and put an order into the queue.

        Args:
            judged: what the policy is asked about; by default the command itself.
        """
        command = judged if judged is not None else order.request["command"]
        why = policy.refusal(session, asset, "admin", command)
        if why is None:
            return self._jobs.submit(session, who, asset, kind, order)[0]
        result = {"code": DENIED, "stdout": "", "stderr": why, "error": "policy_denied"}
        found = self._jobs.kind(kind)
        assert found is not None
        return jobs_service.submit_ended(session, who, asset, found, order, "policy_denied", result)

    def _repeat(self, session: Session, who: Principal, job: Job, batch_id: str) -> Job:
        asset = agents.get_asset(session, job.asset_id)
        order = Order(
            request=dict(job.request),
            timeout_s=job.timeout_s,
            when_offline=job.when_offline,  # type: ignore[arg-type]
            batch_id=batch_id,
        )
        judged = CRON_FORM if job.kind == "cron_set" else None
        return self.put(session, who, asset, job.kind, order, judged)


def _batch_of(who: Principal, key: str) -> str:
    return hashlib.sha256(f"{who.id}\n{key}".encode()).hexdigest()[:36]


def _for_asset(order: Order, asset: Asset) -> Order:
    """Give each machine's job a key of its own."""
    if order.idempotency_key is None:
        return order
    digest = hashlib.sha256(f"{order.idempotency_key}\n{asset.id}".encode()).hexdigest()
    return replace(order, idempotency_key=digest)
