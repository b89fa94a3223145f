"""The worker processes of an endpoint, as the hub sees them.

Rules: the feature `workers`; ids are stable across adoption. `worker_result` is final.

Source: contract 1.7.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from wire import features
from wire.fields import Amount, Count, Id, Name, Part, Payload

# -- to the agent -------------------------------------------------------------------------------


class WorkerList(Payload, frozen=True, kw_only=True):
    """Ask for the workers."""

    request_id: Id


class WorkerRestart(Payload, frozen=True, kw_only=True):
    """Restart the worker `worker_id`, which is `id` on the wire."""

    request_id: Id
    worker_id: Id = msgspec.field(name="id")


# -- to the server ------------------------------------------------------------------------------


class WorkerItem(Part, frozen=True, kw_only=True):
    """One worker: its job, its process, its memory, its last beat."""

    id: Id
    kind: Name
    state: Name
    pid: Count | None = None
    job: str | None = None
    memory_bytes: Count | None = None
    beat_age_ms: Amount | None = None
    uptime_sec: Amount | None = None
    restarts: Count | None = None


class Workers(Payload, frozen=True, kw_only=True):
    """The workers."""

    request_id: Id
    items: tuple[WorkerItem, ...]
    truncated: bool | None = None


class WorkerResult(Payload, frozen=True, kw_only=True):
    """What came of a restart; `id` is the event's, as in every final event."""

    OURS: ClassVar = {"id": features.ACK}

    request_id: Id
    ok: bool
    error: str | None = None
    detail: str | None = None
    id: Id | None = None
