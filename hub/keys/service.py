"""The family: a sync is a job of its own, a preview is a command that reads one file.

Rules: a result names no job, only the user: it is the oldest sync of that user that is on its way
to the machine, which takes one after the other. Agents do not list syncs, and no message ends one.
Source: contract 1.6, 1.7.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.admin import requests
from hub.admin.requests import AdminIn, Timing
from hub.admin.service import Admin
from hub.agents.inbox import After, Inbox
from hub.agents.links import Link
from hub.agents.models import Asset
from hub.authorize import Principal
from hub.errors import DuplicateResultError
from hub.jobs import service as jobs_service
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.queue import Jobs
from hub.jobs.reconciliation import Reconciliation
from hub.jobs.service import Order
from hub.jobs.states import State
from hub.keys.preview import preview
from hub.keys.source import Found, Key
from hub.policy import service as policy
from wire.admin import AdminResult
from wire.keys import KeysSyncResult, SyncKeys

SYNC, PREVIEW = "keys_sync", "keys_preview"
READ = "cat .ssh/authorized_keys"
READ_S = 30.0
SYNC_S = 60.0
NOT_THERE = "No such file"


class Keys:
    """See the module."""

    def __init__(
        self, admin: Admin, jobs: Jobs, inbox: Inbox, reconciliation: Reconciliation
    ) -> None:
        self._admin = admin
        self._jobs = jobs
        self._reconciliation = reconciliation
        admin.add_kind(PREVIEW, "keys.preview", on_result=_on_read)
        kind = JobKind(
            name=SYNC,
            action="keys.sync",
            messages=lambda job, _peer: [SyncKeys(user=job.request["user"])],
            told=lambda request: {"user": request["user"]},
        )
        jobs.register(kind)
        inbox.final(KeysSyncResult, self._on_result)

    def sync(
        self, session: Session, who: Principal, asset: Asset, user: str, timing: Timing
    ) -> Job:
        """Let a machine add a user's keys."""
        order = Order(
            request={"user": user},
            timeout_s=SYNC_S,
            when_offline=timing.when_offline,
            expires_in_s=timing.expires_in,
        )
        why = policy.refusal(session, asset, "keys")
        if why is None:
            return self._jobs.submit(session, who, asset, SYNC, order)[0]
        kind = self._jobs.kind(SYNC)
        assert kind is not None
        result = {"ok": False, "error": "policy_denied", "detail": why}
        return jobs_service.submit_ended(session, who, asset, kind, order, "policy_denied", result)

    def preview(
        self,
        session: Session,
        who: Principal,
        asset: Asset,
        user: str,
        found: Found,
        timing: Timing,
    ) -> Job:
        """Ask a machine for its file, to be compared with what the source has."""
        asked = AdminIn(command=READ, timeout_sec=READ_S, **timing.model_dump())
        order = requests.order_of(self._admin.keyring, asked)
        order.request.update(
            user=user,
            url=found.url,
            rejected=found.rejected,
            keys=[[key.algorithm, key.base64] for key in found.keys],
        )
        return self._admin.submission.put(session, who, asset, PREVIEW, order)

    def _on_result(self, session: Session, link: Link, message: KeysSyncResult) -> After:
        job = next(
            (
                one
                for one in jobs_service.in_flight(session, link.asset_id)
                if one.kind == SYNC and one.request["user"] == message.user
            ),
            None,
        )
        if job is None:
            raise DuplicateResultError
        ended = jobs_service.finish(
            session,
            job.id,
            State.SUCCEEDED if message.ok else State.FAILED,
            error=None if message.ok else (message.error or "failed")[:64],
            result=_stored(message),
            by=Principal("agent", link.agent_id, link.client_id, link.tenant_id, None),
        )
        if ended is None:
            raise DuplicateResultError

        def after() -> None:
            self._reconciliation.heard(link)
            self._jobs.changed(ended)

        return after


def _stored(message: KeysSyncResult) -> dict[str, Any]:
    fields = ("ok", "user", "added", "ms", "error", "rejected", "removed", "warn", "detail")
    found = {name: getattr(message, name) for name in fields}
    return {name: value for name, value in found.items() if value is not None}


def _on_read(_session: Session, job: Job, message: AdminResult) -> None:
    """Keep the comparison, not the file."""
    outcome = message.result
    file: str | None = None
    reason: str | None = None
    if outcome.summary.truncated:
        reason = "the file is too large to be compared"
    elif outcome.summary.code == 0:
        file = outcome.stdout
    elif outcome.summary.code == 1 and NOT_THERE in outcome.stderr:
        file = ""
    else:
        reason = f"the machine does not let the hub read it: {outcome.stderr.strip()[:500]}"
    keys = [Key(*pair) for pair in job.request["keys"]]
    job.state, job.error = State.SUCCEEDED, None
    job.result = {"preview": preview(job.request["user"], keys, file, reason)}
