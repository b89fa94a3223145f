"""The reasons that end or refuse a shell, as the contract spells them.

A peer may send others, so messages hold plain strings; our own code names these.

Source: contract 1.3.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a shell is closed or was never opened."""

    EXIT = "exit"
    CLOSED = "closed"
    BUSY = "busy"
    DISABLED = "disabled"
    RATE_LIMITED = "rate_limited"
    POLICY_DENIED = "policy_denied"
    PTY_UNAVAILABLE = "pty unavailable"
    WORKER_DIED = "worker_died"
    WORKER_STALLED = "worker_stalled"
    STALLED_IO = "stalled_io"
    OOM = "oom"
    LEASE_EXPIRED = "lease_expired"
    DETACHED_TIMEOUT = "detached_timeout"
    AGENT_RESTARTED = "agent_restarted"
    AGENT_STOPPED = "agent_stopped"
    OPERATOR_LOST = "operator_lost"
    TOO_LARGE = "too_large"
    BAD_REQUEST = "bad_request"
    UNKNOWN_OUTCOME = "unknown_outcome"


class BusyDetail(StrEnum):
    """What makes a machine `busy`."""

    MAX_CONCURRENT = "max_concurrent"
    DISK_FULL = "disk_full"
    RESOURCES = "resources"
    LOCKED_BY_HOST = "locked_by_host"
    QUARANTINED = "quarantined"
