"""Who hears of a command that moved: consoles, and the agent that should beat at once.

Rules: on the loop, after the commit; nothing depends on a notice arriving: a console reads again,
an agent beats by itself.
Source: contract 1.7 (`poll_now`), part 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hub.agents.presence import Change
from hub.clock import now_ms
from hub.errors import HubError
from hub.heartbeat import command_requests
from hub.heartbeat.models import Command
from wire.link import PollNow

if TYPE_CHECKING:
    from hub.assembly import Hub
    from hub.heartbeat.beats import Taken

BEAT = "beat"
NO_BEAT = "no_beat"


def moved(hub: Hub, command: Command) -> None:
    """Tell consoles."""
    view = msgspec.to_builtins(command_requests.view(command))
    for topic in (f"command:{command.id}", f"agent:{command.asset_id}", "commands"):
        hub.console.publish(command.tenant_id, topic, "command", view)


def beaten(hub: Hub, taken: Taken) -> None:
    """A beat is a sign of life of a machine that nobody believed to be there."""
    known = taken.known
    if known is None or taken.is_replay or taken.presence in ("online", "conflict"):
        return
    if hub.links.of(known.asset_id) is not None:
        return  # its link tells
    hub.presence.set(
        Change(known.tenant_id, known.asset_id, "online", now_ms(), BEAT, known.address)
    )


def inventoried(hub: Hub, taken: Taken) -> None:
    """Tell consoles that look at a machine what it is made of now."""
    known = taken.known
    if known is not None and not taken.is_replay:
        payload = {"asset_id": known.asset_id}
        hub.console.publish(known.tenant_id, f"agent:{known.asset_id}", "inventory", payload)


def silent(hub: Hub, gone: list[tuple[str, str]]) -> None:
    """Machines whose last sign was a beat, long ago, are offline unless they are linked."""
    for tenant_id, asset_id in gone:
        if hub.links.of(asset_id) is None:
            hub.presence.set(Change(tenant_id, asset_id, "offline", now_ms(), NO_BEAT))


async def wanted(hub: Hub, command: Command) -> None:
    """Let the agent beat at once where its live link is up and it knows how."""
    try:
        await hub.links.send(command.asset_id, PollNow())
    except HubError:
        return  # it beats by itself
