"""Wall time as the hub stores it: whole milliseconds since the epoch, UTC.

Rules: order and deadlines inside a process use a monotonic clock; this is for what people read and
for what outlives a process. Tests replace `now_ms` by an argument, never by patching.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def iso(stamp_ms: int) -> str:
    """Write a stamp as ISO 8601 in UTC with milliseconds: `2026-11-28T09:00:00.000Z`."""
    moment = datetime.fromtimestamp(stamp_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(stamp_ms: int | None) -> str | None:
    """Write a stamp that may be missing."""
    return None if stamp_ms is None else iso(stamp_ms)
