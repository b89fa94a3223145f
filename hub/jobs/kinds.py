"""What a family tells the queue about its jobs.

Rules: `messages` is pure and is called once per job, right before it is sent; nothing here touches
the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hub.jobs.models import Job
from hub.jobs.ports import Link
from wire.events import ToAgent

Features = frozenset[str] | None


def _nothing(_request: dict[str, Any]) -> dict[str, Any]:
    return {}


def _anybody(_features: Features) -> bool:
    return True


@dataclass(frozen=True)
class JobKind:
    """One kind of job.

    `messages(job, features)` is what to send to an agent with these features (None: a foreign
    one); it raises ConflictError `unsupported` where that agent cannot do it.
    `listed_as(job)` is how the agent calls it in the `jobs` of its CONNECT packet; None: agents do
    not list this kind, so that its absence means nothing.
    `cancel(job, link)` asks the agent to end it; None: the contract has no such message, and
    `may_cancel(features)` tells whether an agent understands it.
    `ended(job)` is called on the loop once a job is at its end, however it came there.
    `told(request)` is what the audit log says of a request; never a secret.
    """

    name: str
    action: str
    messages: Callable[[Job, Features], Sequence[ToAgent]]
    listed_as: Callable[[Job], str] | None = None
    cancel: Callable[[Job, Link], None] | None = None
    may_cancel: Callable[[Features], bool] = _anybody
    told: Callable[[dict[str, Any]], dict[str, Any]] = _nothing
    ended: Callable[[Job], None] | None = None
