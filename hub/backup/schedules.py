"""When a schedule runs next, in its own zone and in words, and whether it should have by now.

Rules: pure; the machine has the last word about a line, so what cannot be read here is told, not
raised. A run has `GRACE_MS` to begin, since machines spread their starts, and to end.
Source: cronsim (a time that a clock change skips or repeats counts once).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from cron_descriptor import FormatError, MissingFieldError, WrongArgumentError, get_description
from cronsim import CronSim, CronSimError

NEXT_RUNS = 3
GRACE_MS = 6 * 3600 * 1000


def next_runs(cron: str, tz: str, after_ms: int, count: int = NEXT_RUNS) -> list[datetime]:
    """Return the next moments, aware, in the schedule's zone; none where it is no schedule."""
    return list(islice(_moments(cron, tz, after_ms), count))


def words(cron: str) -> str | None:
    """Return a cron line in plain words."""
    try:
        return str(get_description(cron))
    except (FormatError, MissingFieldError, WrongArgumentError):
        return None


def fault(cron: str, tz: str) -> str | None:
    """Return why this is no schedule, or None."""
    if _zone(tz) is None:
        return f"{tz} is no time zone"
    try:
        CronSim(cron, datetime.now(UTC))
    except CronSimError as error:
        return f"{cron} is no cron line: {error}"
    return None


def overdue_ms(timetable: Sequence[dict[str, Any]], success_ms: int | None) -> int | None:
    """Return from when on a backup is overdue: one of its schedules was due since its last success,
    and has had its time; None: nothing is scheduled.
    """
    moments = [
        moment
        for one in timetable
        if one["enabled"]
        for moment in next_runs(
            one["cron"], one["tz"], max(success_ms or 0, int(one["since_ms"])), 1
        )
    ]
    return round(min(moments).timestamp() * 1000) + GRACE_MS if moments else None


def _moments(cron: str, tz: str, after_ms: int) -> Iterator[datetime]:
    zone = _zone(tz)
    if zone is None:
        return
    try:
        yield from CronSim(cron, datetime.fromtimestamp(after_ms / 1000, zone))
    except CronSimError:
        return


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None
