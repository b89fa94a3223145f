"""The real uplink: the link's send queue, and the outbox for what must arrive."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from agent.outbox import Outbox
from agent.outgoing import Outgoing
from wire.events import ToServer
from wire.limits import MAX_EVENT_BYTES


class LiveUplink:
    """See `agent.uplink.Uplink`; `agent.main` keeps the facts about the link up to date."""

    def __init__(self, outgoing: Outgoing, outbox: Outbox) -> None:
        self._outgoing = outgoing
        self._outbox = outbox
        self.is_up = False
        self.features: frozenset[str] = frozenset()
        self.last_features: frozenset[str] = frozenset()
        self.event_limit = MAX_EVENT_BYTES

    def control(self, message: ToServer) -> None:
        """Ahead of all output."""
        self._outgoing.control(message)

    def data(self, session: str, message: ToServer, cost: int) -> None:
        """In the session's turn."""
        self._outgoing.data(session, message, cost)

    def latest(self, key: Hashable, message: ToServer) -> None:
        """Newest wins."""
        self._outgoing.latest(key, message)

    def final(
        self,
        message: ToServer,
        key: str,
        after: str | None = None,
        on_stored: Callable[[], object] | None = None,
        digest: str | None = None,
    ) -> None:
        """Stored, then sent until it has arrived."""
        self._outbox.final(message, key, after, on_stored, digest)
