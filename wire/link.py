"""What keeps the link itself: `hello_ack`, `ping`, `pong`; and `poll_now`, for the heartbeat.

Source: contract 1.2, 1.7, 1.9. What is said while connecting is in `wire.connect`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from wire import limits
from wire.fields import LISTED, Name, Payload, Stamp

FeatureList = Annotated[tuple[Name, ...], Meta(max_length=limits.MAX_FEATURES)]


class HelloAck(Payload, frozen=True, kw_only=True):
    """The connection is good. A foreign server sends `{}`, null or nothing at all."""

    OURS: ClassVar = {"features": LISTED, "server_ts": LISTED}

    features: FeatureList | None = None
    server_ts: int | float | None = None


class PollNow(Payload, frozen=True, kw_only=True):
    """The heartbeat shall beat at once."""


class Ping(Payload, frozen=True, kw_only=True):
    """Answered by a `pong` with the same `ts`, whichever side asks."""

    ts: Stamp | None = None


class Pong(Payload, frozen=True, kw_only=True):
    """The answer to a `ping`, its `ts` unchanged."""

    ts: Stamp | None = None
