"""A session's life, as its row tells it: which state may follow which. Imports nothing.

Rules: `open` from before `shell_start` goes out; `closing` from the moment the hub wants it over,
kept through restarts and offline agents; `ended` once and for ever, save that an agent's own word
replaces `unknown_outcome`, which only ever says that nobody had told us yet.
Source: contract 1.3, 1.7 (reconciliation).
"""

from __future__ import annotations

from enum import StrEnum

UNKNOWN_OUTCOME = "unknown_outcome"


class State(StrEnum):
    """Where a session stands."""

    OPEN = "open"
    CLOSING = "closing"
    ENDED = "ended"


class HubReason(StrEnum):
    """Why the hub itself ends a session; an agent's own reasons are in `wire.reasons`."""

    CLOSED = "closed"
    IDLE_TIMEOUT = "idle_timeout"
    MAX_DURATION = "max_duration"
    DETACHED_TIMEOUT = "detached_timeout"
    OPERATOR_LOST = "operator_lost"
    UNKNOWN_OUTCOME = UNKNOWN_OUTCOME
    AGENT_OFFLINE = "agent_offline"


_FOLLOWS: dict[State, frozenset[State]] = {
    State.OPEN: frozenset({State.CLOSING, State.ENDED}),
    State.CLOSING: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}
LIVE = (State.OPEN, State.CLOSING)


def may_follow(now: State, wanted: State) -> bool:
    """Tell whether a session may go from one state to another."""
    return wanted in _FOLLOWS[now]


def may_end(now: State, known_reason: str | None) -> bool:
    """Tell whether an agent's final word is news: the session lives, or was only given up."""
    return now is not State.ENDED or known_reason == UNKNOWN_OUTCOME


def reason_of(wanted: str | None, told: str | None) -> str:
    """Return why a session ended.

    Args:
        wanted: why the hub asked for the end; None: it did not.
        told: the agent's reason; `closed` is its answer to our own `shell_close`.
    """
    if wanted is not None and told in (None, HubReason.CLOSED):
        return wanted
    return told or "exit"
