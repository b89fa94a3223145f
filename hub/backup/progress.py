"""How far backups are: the newest word of each, told at once, and in the row now and then.

Rules: on the loop. A machine's words are kept under its own name, so that they are never another's;
the newest `KEPT` plans of a link, and none once it is gone. The row is written at most every
`WRITE_S`, for who looks after the hub was restarted; percent, rate and time left are the agent's.
Source: contract 1.5 `backup_progress`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from hub.agents.links import Link
from hub.backup.models import BackupPlan
from hub.clock import now_ms
from hub.jobs import service as jobs_service
from hub.jobs.models import Job
from wire.backup import BackupProgress

KEPT = 64
WRITE_S = 5.0
STALE_MS = 60_000
Key = tuple[str, str]


class Progress:
    """See the module.

    Args:
        tell: publishes an event to the watchers of a machine.
        write: stores a plan's newest word, on the side.
    """

    def __init__(
        self,
        tell: Callable[[Link, dict[str, Any]], None],
        write: Callable[[Link, str, dict[str, Any]], None],
    ) -> None:
        self._tell = tell
        self._write = write
        self._words: dict[str, OrderedDict[str, dict[str, Any]]] = {}
        self._written_s: dict[Key, float] = {}

    def on_progress(self, link: Link, message: BackupProgress) -> None:
        """A machine says how far it is."""
        word = view(message)
        words = self._words.setdefault(link.asset_id, OrderedDict())
        words[message.plan_id] = word
        words.move_to_end(message.plan_id)
        if len(words) > KEPT:
            self.ended(link.asset_id, next(iter(words)))
        self._tell(link, {"plan_id": message.plan_id, "progress": word})
        key, now_s = (link.asset_id, message.plan_id), time.monotonic()
        if now_s - self._written_s.get(key, -WRITE_S) >= WRITE_S:
            self._written_s[key] = now_s
            self._write(link, message.plan_id, word)

    def of(self, plan: BackupPlan) -> dict[str, Any] | None:
        """Return the newest word on a plan that is not stale."""
        word = self._words.get(plan.asset_id, OrderedDict()).get(plan.id) or plan.progress
        if word is None or now_ms() - word["at_ms"] > STALE_MS:
            return None
        return word

    def ended(self, asset_id: str, plan_id: str) -> None:
        """What it told of has ended."""
        self._words.get(asset_id, OrderedDict()).pop(plan_id, None)
        self._written_s.pop((asset_id, plan_id), None)

    def unlinked(self, link: Link) -> None:
        """A machine is gone; the rows still have the newest words but a few."""
        for plan_id in list(self._words.pop(link.asset_id, ())):
            self._written_s.pop((link.asset_id, plan_id), None)


def view(message: BackupProgress) -> dict[str, Any]:
    """Return a word as the API tells it."""
    return {
        "job_id": message.request_id,
        "op": message.op,
        "file": message.file,
        "percent": max(0.0, min(100.0, message.percent)),
        "transferred_bytes": message.transferred_bytes,
        "total_bytes": message.total_bytes,
        "files_completed": message.files_completed,
        "bytes_per_sec": message.bytes_per_sec,
        "eta_sec": message.eta_sec,
        "at_ms": now_ms(),
    }


def store(session: Session, link: Link, plan_id: str, word: dict[str, Any]) -> list[Job]:
    """Write a word into the row of this machine's plan; return the job that it shows at work."""
    session.execute(
        update(BackupPlan)
        .where(BackupPlan.id == plan_id, BackupPlan.asset_id == link.asset_id)
        .values(progress=word, progress_ms=word["at_ms"])
    )
    flying = jobs_service.in_flight(session, link.asset_id)
    mine = [job for job in flying if job.kind.startswith("backup_")]
    named = [
        job.id
        for job in mine
        if word["job_id"] in (None, job.id) and job.request.get("plan_id") == plan_id
    ]
    waiting = [job.id for job in mine if job.id in named and job.state == "sent"]
    return jobs_service.mark_running(session, waiting, link.agent_id)
