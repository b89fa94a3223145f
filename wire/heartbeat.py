"""The HTTPS beat and its answer. (`poll_now`, which asks for one over the live link, is a link's.)

Rules: `seq` grows by one with every beat, through restarts of the agent. A beat is answered only
when everything in it is stored. `metrics` are samples as `stats` carries them; after an outage they
follow in several beats. `inventory` is there when the hub wanted it, or when its digest is another
than the one last answered.

Source: contract part 2; fault cases C.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from wire import limits
from wire.bodies import Body, Moment, Sha256, Url
from wire.commands import CommandResult, PendingCommand
from wire.enrolment import AgentId
from wire.fields import Count, Id
from wire.inventory import Inventory
from wire.telemetry import Sample


class HeartbeatRequest(Body, frozen=True, kw_only=True):
    """One beat. `inventory_digest` is absent until an inventory was collected."""

    agent_id: AgentId
    seq: Count
    sent_at: Moment
    boot_id: Id
    metrics: Annotated[tuple[Sample, ...], Meta(max_length=limits.BEAT_METRICS)] = ()
    inventory_digest: Sha256 | None = None
    inventory: Inventory | None = None
    command_results: Annotated[tuple[CommandResult, ...], Meta(max_length=limits.BEAT_RESULTS)] = ()


class HeartbeatResponse(Body, frozen=True, kw_only=True):
    """Everything in the beat is stored. `policy` is the tenant's, which can only narrow.

    `agents_url` tells where client certificates are asked for, where the hub has such a listener.
    """

    server_ts: int | float
    next_interval_sec: Annotated[float, Meta(gt=0)] = limits.BEAT_INTERVAL_S
    pending_commands: Annotated[
        tuple[PendingCommand, ...], Meta(max_length=limits.BEAT_COMMANDS)
    ] = ()
    want_inventory: bool = False
    policy: dict[str, Any] | None = None
    agents_url: Url | None = None
