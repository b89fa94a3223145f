"""What the queue needs of its neighbours: the links to agents, and whoever watches.

Rule: Protocols, so that tests bring doubles of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from wire.connect import JobState
from wire.events import ToAgent

Later = Callable[[Coroutine[Any, Any, Any]], None]
"""Runs a coroutine on the side."""


class Link(Protocol):
    """A live link. `features` None: a foreign agent."""

    @property
    def agent_id(self) -> str: ...
    @property
    def asset_id(self) -> str: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def features(self) -> frozenset[str] | None: ...
    @property
    def jobs(self) -> Sequence[JobState]: ...


class Links(Protocol):
    """The live links of this process."""

    def of(self, asset_id: str) -> Link | None:
        """Return the link of a machine."""

    async def send(self, asset_id: str, message: ToAgent) -> None:
        """Send a message; `agent_offline` means that it surely was not sent."""


class Inbox(Protocol):
    """Who tells that links come and go."""

    def linked(self, handler: Callable[[Any], None]) -> None:
        """Let a handler know of every link, after its greeting."""

    def unlinked(self, handler: Callable[[Any], None]) -> None:
        """Let a handler know when one is gone."""


class Console(Protocol):
    """Whoever watches."""

    def publish(self, tenant_id: str, topic: str, event: str, payload: dict[str, Any]) -> None:
        """Tell a topic's watchers."""
