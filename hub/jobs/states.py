"""The states of a job, and which follows which.

Rules: imports nothing of ours. `unknown` is the hub's own word for "nobody can tell": the machine's
own result, should it still come, replaces it; every other end is for ever. A queued job may jump to
its end without having been sent, because a hub that was restored from a backup meets the results of
jobs that it does not remember sending.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    SENT = "sent"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


_RESULTS = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

NEXT: dict[State, frozenset[State]] = {
    State.QUEUED: _RESULTS | {State.SENT, State.RUNNING, State.EXPIRED, State.UNKNOWN},
    State.SENT: _RESULTS | {State.QUEUED, State.RUNNING, State.UNKNOWN},
    State.RUNNING: _RESULTS | {State.UNKNOWN},
    State.UNKNOWN: _RESULTS,
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}

IN_FLIGHT = frozenset({State.SENT, State.RUNNING})
OPEN = IN_FLIGHT | {State.QUEUED}


def before(state: State) -> frozenset[State]:
    """Return the states that a job may be in right before this one."""
    return frozenset(one for one, following in NEXT.items() if state in following)
