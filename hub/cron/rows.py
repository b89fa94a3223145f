"""A crontab as rows: what each line is, in plain words, and when it runs next. Pure.

Rules: the text is never changed; a line that no schedule can be made of is told, not refused, since
crontab(1) on the machine has the last word. Times are reckoned in the zone of the line: the last
`CRON_TZ` above it, else the machine's as its inventory has it, else UTC, and the row says which.
Source: crontab(5); cronsim (which runs a daily job once when clocks change).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

from cron_descriptor import FormatError, MissingFieldError, WrongArgumentError, get_description
from cronsim import CronSim, CronSimError

NEXT_RUNS = 3
MAX_LINES = 2000
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_VARIABLE = re.compile(r"""\s*["']?([A-Za-z_][A-Za-z0-9_]*)["']?\s*=\s*(.*?)\s*""")
_ENTRY = re.compile(r"\s*((?:\S+\s+){4}\S+)\s+(\S.*)")
_NAMED_ENTRY = re.compile(r"\s*(@[a-z]+)\s+(\S.*)")
ZoneSource = Literal["line", "machine", "unknown"]


@dataclass(frozen=True)
class Row:
    """One line that is not blank and no comment."""

    line: int
    kind: Literal["job", "variable", "fault"]
    text: str
    schedule: str | None = None
    command: str | None = None
    words: str | None = None
    zone: str | None = None
    zone_source: ZoneSource | None = None
    next_runs: list[str] = field(default_factory=list)
    fault: str | None = None


def rows(text: str, machine_zone: str | None = None, now: datetime | None = None) -> list[Row]:
    """Read a crontab.

    Args:
        machine_zone: such as `Europe/Berlin`; None where nobody knows.
        now: aware; what the next runs follow.
    """
    return list(islice(_rows(text, machine_zone, now or datetime.now(UTC)), MAX_LINES))


def _rows(text: str, machine_zone: str | None, now: datetime) -> Iterator[Row]:
    zone, source = (machine_zone, "machine") if _zone(machine_zone) else ("UTC", "unknown")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        variable = _VARIABLE.fullmatch(line)
        if variable is not None:
            name, value = variable[1], variable[2].strip("\"'")
            if name == "CRON_TZ" and _zone(value) is not None:
                zone, source = value, "line"
            yield Row(line=number, kind="variable", text=line)
        else:
            yield _entry(number, line, zone or "UTC", source, now)  # type: ignore[arg-type]


def _entry(number: int, line: str, zone: str, source: ZoneSource, now: datetime) -> Row:
    found = _NAMED_ENTRY.fullmatch(line) or _ENTRY.fullmatch(line)
    if found is None:
        return Row(line=number, kind="fault", text=line, fault="five fields and a command")
    schedule, command = found[1], found[2]
    if schedule == "@reboot":
        return Row(
            line=number, kind="job", text=line, schedule=schedule, command=command,
            words="At each start of the machine",
        )  # fmt: skip
    fields = _NAMED.get(schedule, schedule)
    try:
        moments = islice(CronSim(fields, now.astimezone(_zone(zone))), NEXT_RUNS)
        runs = [moment.isoformat(timespec="minutes") for moment in moments]
        words = get_description(fields)
    except (CronSimError, FormatError, MissingFieldError, WrongArgumentError) as error:
        return Row(line=number, kind="fault", text=line, fault=str(error)[:200])
    return Row(
        line=number,
        kind="job",
        text=line,
        schedule=schedule,
        command=command,
        words=words,
        zone=zone,
        zone_source=source,
        next_runs=runs,
    )


def _zone(name: str | None) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return None
    except KeyError:
        return None
