"""An uplink that keeps what was said, for tests of a family with real workers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from wire.events import ToServer


@dataclass
class RecordingUplink:
    """See `agent.uplink.Uplink`; finals are stored at once unless `disk_full`, else by `store`."""

    features: frozenset[str] = frozenset()
    last_features: frozenset[str] = frozenset()
    is_up: bool = True
    event_limit: int = 240 * 1024
    disk_full: bool = False
    said: list[ToServer] = field(default_factory=list)
    finals: list[ToServer] = field(default_factory=list)
    digests: list[str | None] = field(default_factory=list)
    unstored: list[Callable[[], object]] = field(default_factory=list)
    on_data: Callable[[str, int], Any] | None = None

    def control(self, message: ToServer) -> None:
        self.said.append(message)

    def data(self, session: str, message: ToServer, cost: int) -> None:
        self.said.append(message)
        if self.on_data is not None:
            self.on_data(session, cost)

    def latest(self, key: Hashable, message: ToServer) -> None:
        self.said.append(message)

    def final(
        self,
        message: ToServer,
        key: str,
        after: str | None = None,
        on_stored: Callable[[], object] | None = None,
        digest: str | None = None,
    ) -> None:
        self.said.append(message)
        self.finals.append(message)
        self.digests.append(digest)
        if on_stored is not None and self.disk_full:
            self.unstored.append(on_stored)
        elif on_stored is not None:
            on_stored()

    def store(self) -> None:
        """The disk takes everything again."""
        unstored, self.unstored, self.disk_full = self.unstored, [], False
        for on_stored in unstored:
            on_stored()

    def of(self, kind: type) -> list[Any]:
        """Return what was said of one kind, in order."""
        return [message for message in self.said if isinstance(message, kind)]
