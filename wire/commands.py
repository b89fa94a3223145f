"""Asynchronous data collection: what is asked, what is offered to an agent, what it answers.

Rules: a command is offered under a lease, again when the lease has run out, and the agent knows it
by `command_id` for seven days: it runs once. `running` and the final states are reported on the
heartbeat until a beat that carried them was answered. A type that an agent does not know is
reported `failed`, `unsupported_type`, and never executed. `result_summary` is small; what is
larger goes up as an artifact and is named by `artifact_id`.

Source: contract part 2; fault cases C.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta

from wire import limits
from wire.bodies import Body, Entry, Moment
from wire.fields import Id, Name

CommandState = Literal["requested", "accepted", "running", "completed", "failed"]
WhenOffline = Literal["queue", "skip", "fail"]
Section = Literal[
    "os", "hardware", "disks", "interfaces", "packages", "services", "users", "timers"
]


class CommandType(StrEnum):
    """What an agent can be asked to collect."""

    COLLECT_INVENTORY = "collect_inventory"
    COLLECT_TELEMETRY = "collect_telemetry"


class CommandError(StrEnum):
    """Why a command failed."""

    UNSUPPORTED_TYPE = "unsupported_type"
    BAD_PARAMS = "bad_params"
    POLICY_DENIED = "policy_denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    AGENT_RESTARTED = "agent_restarted"
    WORKER_DIED = "worker_died"
    WORKER_STALLED = "worker_stalled"
    TIMEOUT = "timeout"
    LOCKED_BY_HOST = "locked_by_host"
    DISK_FULL = "disk_full"
    AGENT_STOPPED = "agent_stopped"
    ARTIFACT_REFUSED = "artifact_refused"
    INTERNAL = "internal"


class CollectInventory(Body, frozen=True, kw_only=True):
    """Parameters of `collect_inventory`: the sections to collect, None for all."""

    sections: tuple[Section, ...] | None = None


class CollectTelemetry(Body, frozen=True, kw_only=True):
    """Parameters of `collect_telemetry`: how many samples, how far apart."""

    samples: Annotated[int, Meta(ge=1, le=60)] = 1
    interval_sec: Annotated[float, Meta(ge=0.1, le=60)] = 1.0


class PendingCommand(Entry, frozen=True, kw_only=True):
    """An offer; `lease_sec` from when it was made, `expires_at` on the hub's clock."""

    command_id: Id
    command_type: Name
    expires_at: Moment
    params: dict[str, Any] = {}
    lease_sec: Annotated[float, Meta(gt=0, le=86_400)] = limits.COMMAND_LEASE_S


class CommandResult(Entry, frozen=True, kw_only=True):
    """How far a command is. A final one is repeated until a beat with it was answered."""

    command_id: Id
    state: Literal["accepted", "running", "completed", "failed"]
    started_at: Moment | None = None
    finished_at: Moment | None = None
    result_summary: dict[str, Any] | None = None
    artifact_id: Id | None = None
    error: Name | None = None


class CommandRequest(Body, frozen=True, kw_only=True):
    """An operator's order; `expires_in` in seconds."""

    asset_id: Id
    command_type: Name
    idempotency_key: Id
    params: dict[str, Any] = {}
    when_offline: WhenOffline = "queue"
    expires_in: Annotated[int, Meta(ge=1, le=30 * 86_400)] | None = None


class CommandView(Body, frozen=True, kw_only=True):
    """A command as the API shows it."""

    command_id: Id
    asset_id: Id
    command_type: Name
    state: CommandState
    requested_at: Moment
    expires_at: Moment
    params: dict[str, Any] = {}
    requested_by: Name | None = None
    accepted_at: Moment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    result_summary: dict[str, Any] | None = None
    artifact_id: Id | None = None
    error: Name | None = None
    skipped: bool | None = None


class CommandPage(Body, frozen=True, kw_only=True):
    """One page of commands, newest first; `next` is the key of the following one."""

    items: tuple[CommandView, ...]
    next: str | None = None
