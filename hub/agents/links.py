"""The live links: one for each agent, and the one way to send to it.

Rules: on the loop. A message goes through `wire.peers.for_peer`, so that a foreign agent gets
nothing that it has not asked for, and nothing over 32 KiB: keystrokes are cut into pieces. An agent
in an identity conflict has no link. The table can be rebuilt from what connects.

Source: contract 1.1, 1.7; architecture "Hub".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from hub.errors import AgentOfflineError, BadRequestError, UnsupportedError
from hub.sockets.server import Peer
from wire import limits
from wire.connect import JobState
from wire.errors import WireError
from wire.events import ToAgent, encode, event_name
from wire.peers import for_peer
from wire.shell import ShellInput

REPLACED = "replaced"
_PIECE_CHARS = 4 * limits.KIB  # of any text: at most 6 bytes each once it is JSON


@dataclass(eq=False, slots=True)
class Link:
    """One agent's live link. `features` is None for a foreign agent; times in milliseconds."""

    agent_id: str
    asset_id: str
    tenant_id: str
    client_id: str
    features: frozenset[str] | None
    boot_id: str | None
    version: str | None
    jobs: tuple[JobState, ...]
    connected_ms: int
    peer: Peer
    rtt_ms: float | None = None
    is_up: bool = field(default=False)
    """Greeted, and not gone."""
    is_certified: bool = False
    """Whether it showed a client certificate."""

    @property
    def address(self) -> str:
        return self.peer.address

    @property
    def backlog_bytes(self) -> int:
        """What has not been handed to the system yet."""
        return self.peer.socket.backlog_bytes


class Links:
    """See the module."""

    def __init__(self) -> None:
        self._by_agent: dict[str, Link] = {}
        self._by_asset: dict[str, Link] = {}

    def __len__(self) -> int:
        return len(self._by_agent)

    def of(self, asset_id: str) -> Link | None:
        """Return a machine's link."""
        return self._by_asset.get(asset_id)

    def of_agent(self, agent_id: str) -> Link | None:
        """Return an agent's link."""
        return self._by_agent.get(agent_id)

    def all(self) -> Iterator[Link]:
        """Return every link; the table may change meanwhile."""
        return iter(list(self._by_agent.values()))

    def add(self, link: Link) -> None:
        """A link is up."""
        link.is_up = True
        self._by_agent[link.agent_id] = link
        self._by_asset[link.asset_id] = link

    def remove(self, link: Link) -> bool:
        """A link is gone; tell whether it was still its agent's own."""
        link.is_up = False
        if self._by_asset.get(link.asset_id) is link:
            del self._by_asset[link.asset_id]
        if self._by_agent.get(link.agent_id) is not link:
            return False
        del self._by_agent[link.agent_id]
        return True

    async def send(self, asset_id: str, message: ToAgent) -> None:
        """Send to a machine.

        Raises:
            AgentOfflineError: it has no link.
            UnsupportedError: it does not know this message.
            BadRequestError: `too_large`.
        """
        link = self.of(asset_id)
        if link is None:
            raise AgentOfflineError("the agent is not linked; try again when it is online")
        self.send_nowait(link, message)

    def send_nowait(self, link: Link, message: ToAgent) -> None:
        """Queue a message behind what was queued before.

        Raises:
            like `send`.
        """
        if not link.is_up:
            raise AgentOfflineError("the agent is not linked; try again when it is online")
        told = for_peer(message, link.features)
        if told is None:
            raise UnsupportedError(f"this agent does not know `{event_name(message)}`")
        for piece in _pieces(told, link):
            link.peer.emit(*_encoded(piece, _limit(link)))

    async def cut(self, agent_id: str, reason: str) -> bool:
        """End an agent's link; tell whether there was one."""
        link = self._by_agent.get(agent_id)
        if link is None:
            return False
        await link.peer.close(reason)
        return True


def _limit(link: Link) -> int:
    if link.features is None:
        return limits.FOREIGN_AGENT_EVENT_BYTES
    return limits.MAX_EVENT_BYTES


def _pieces(message: ToAgent, link: Link) -> Iterator[ToAgent]:
    if not isinstance(message, ShellInput) or link.features is not None:
        yield message
        return
    for start in range(0, max(len(message.data), 1), _PIECE_CHARS):
        piece = message.data[start : start + _PIECE_CHARS]
        yield msgspec.structs.replace(message, data=piece)


def _encoded(message: ToAgent, limit: int) -> tuple[str, bytes]:
    try:
        return encode(message, limit)
    except WireError as error:
        raise BadRequestError(error.detail, code=error.reason) from error
