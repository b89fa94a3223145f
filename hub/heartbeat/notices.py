"""Who hears of a command that moved: consoles, and the agent that should beat at once.

Rules: on the loop, after the commit; nothing depends on a notice arriving: a console reads again,
an agent beats by itself.
Source: contract 1.7 (`poll_now`), part 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hub.errors import HubError
from hub.heartbeat import command_requests
from hub.heartbeat.models import Command
from wire.link import PollNow

if TYPE_CHECKING:
    from hub.assembly import Hub


def moved(hub: Hub, command: Command) -> None:
    """Tell consoles."""
    view = msgspec.to_builtins(command_requests.view(command))
    for topic in (f"command:{command.id}", f"agent:{command.asset_id}", "commands"):
        hub.console.publish(command.tenant_id, topic, "command", view)


async def wanted(hub: Hub, command: Command) -> None:
    """Let the agent beat at once where its live link is up and it knows how."""
    try:
        await hub.links.send(command.asset_id, PollNow())
    except HubError:
        return  # it beats by itself
