"""What the live link says to the heartbeat worker. The HTTPS beat itself has its own document.

Source: contract 1.7 (`poll_now`).
"""

from __future__ import annotations

from wire.fields import Payload


class PollNow(Payload, frozen=True, kw_only=True):
    """Beat at once."""
