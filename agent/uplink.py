"""What the families may do with the link, whoever is at its other end.

Rules: core thread only. `features` is None while the peer is foreign or no list has come yet, and
then nothing of contract 1.7 may be said. Everything but finals is lost with the connection; finals
are stored before they are sent. The real one is put together in `agent.uplink_live`; tests of a
family pass a list.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from wire.events import ToServer


class Uplink(Protocol):
    """See the module."""

    @property
    def is_up(self) -> bool:
        """May events go out now?"""

    @property
    def features(self) -> frozenset[str]:
        """What both sides have listed; empty for a foreign server."""

    @property
    def last_features(self) -> frozenset[str]:
        """The same of the last server that said hello, also while the link is down."""

    @property
    def event_limit(self) -> int:
        """The most that one event may measure, in bytes."""

    def control(self, message: ToServer) -> None:
        """Say something ahead of all output; lost when the link is down."""

    def data(self, session: str, message: ToServer, cost: int) -> None:
        """Queue output of a session; `cost` comes back to its family's `on_drained`."""

    def latest(self, key: Hashable, message: ToServer) -> None:
        """Say something of which only the newest counts."""

    def final(
        self,
        message: ToServer,
        key: str,
        after: str | None = None,
        on_stored: Callable[[], object] | None = None,
        digest: str | None = None,
    ) -> None:
        """Store a final event, then send it until it has arrived.

        Args:
            key: the job's id: a second final for it is dropped.
            after: the session whose queued output goes first.
            on_stored: called once it would survive a power cut; not called while the disk is full
                (it is tried again).
            digest: of the request, where its result is kept for a repeated request.
        """
