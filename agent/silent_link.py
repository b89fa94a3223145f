"""The live link of a machine that opens none: profile `reporter` with a heartbeat.

Rule: nothing is imported, nothing is connected; `status` says `off`.
"""

from __future__ import annotations

from agent.clock import wall_ms
from agent.link_types import LinkStatus
from workers.loop import now_s


class SilentLink:
    """Answers what is asked of `agent.live_link.LiveLink`."""

    def __init__(self) -> None:
        self._status = LinkStatus(state="off", since_s=now_s(), since_ms=wall_ms())

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self, flush_s: float = 0.0) -> None:
        """There is nothing to stop."""

    def join(self, timeout_s: float) -> bool:
        """It has ended already."""
        return True

    def drop(self, sentence: str) -> None:
        """There is nothing to drop."""

    def move(self, server_url: str) -> None:
        """There is nothing to move."""

    def status(self) -> LinkStatus:
        return self._status
