"""Which services there are, and what runs by the clock: systemd, init scripts, crontabs.

Rules: units and crontabs are read as files, because a confined worker may neither run `systemctl`
nor speak to the bus. A service is `running` when its control group is there; it is `enabled` when a
target or a socket wants it. Of a crontab's line only schedule and command are told, never its
variables, where passwords stand.

Source: systemd.unit(5), systemd.timer(5), crontab(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from wire.inventory import Service, Timer
from workers.heartbeat.system import text

READ_DIRS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/etc/init.d",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron",
)
READ_FILES = ("/etc/crontab", "/etc/anacrontab")
# The first has the last word about a unit of the same name.
_UNIT_DIRS = (
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_CGROUPS = ("sys/fs/cgroup/system.slice", "sys/fs/cgroup/systemd/system.slice")
_SPOOLS = ("var/spool/cron/crontabs", "var/spool/cron/tabs", "var/spool/cron")
_PERIODS = ("hourly", "daily", "weekly", "monthly")
_SCHEDULE = re.compile(r"(?:On\w+Sec|OnCalendar|OnActiveSec)\s*=\s*(\S.*)")
_FIELDS = re.compile(r"((?:@\w+)|(?:\S+\s+){4}\S+)\s+(\S.*)")
_VARIABLE = re.compile(r"[A-Za-z_]\w*\s*=")
_TEXT_CHARS = 1024


def services(root: Path = Path("/")) -> tuple[Service, ...]:
    """Return every service of systemd, and every init script without a unit."""
    units = _units(root, ".service")
    wanted = _wanted(root)
    found = {
        name: Service(
            name=name.removesuffix(".service"),
            state="running" if _runs(root, name) else None,
            enabled=_enabled(path, name in wanted),
        )
        for name, path in units.items()
        if not name.endswith("@.service")
    }
    for script in _names(root / "etc/init.d"):
        if f"{script}.service" not in units and script != "README":
            found[script] = Service(name=script, enabled="init script")
    return tuple(sorted(found.values(), key=lambda one: one.name))


def timers(root: Path = Path("/")) -> tuple[tuple[Timer, ...], list[str]]:
    """Return what runs by the clock, and which crontabs could not be read."""
    unread: list[str] = []
    found = {*_systemd_timers(root), *_periodic(root), *_crontabs(root, unread)}
    return tuple(sorted(found, key=_order)), unread


def crontab_lines(table: str, has_user: bool) -> Iterator[tuple[str, str | None, str]]:
    """Yield schedule, user and command of each line of a crontab."""
    for line in map(str.strip, table.splitlines()):
        if not line or line.startswith("#") or _VARIABLE.match(line):
            continue
        fields = _FIELDS.fullmatch(line)
        if fields is None:
            continue
        schedule, rest = " ".join(fields[1].split()), fields[2]
        user, _, command = rest.partition(" ") if has_user else (None, "", rest)
        yield schedule, user, command.strip()[:_TEXT_CHARS]


def _order(timer: Timer) -> tuple[str, str, str, str]:
    return timer.source, timer.name, timer.schedule or "", timer.command or ""


def _units(root: Path, suffix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _UNIT_DIRS:
        for name in _names(root / folder):
            if name.endswith(suffix):
                found.setdefault(name, root / folder / name)
    return found


def _wanted(root: Path) -> set[str]:
    found: set[str] = set()
    for folder in _UNIT_DIRS:
        for name in _names(root / folder):
            if name.endswith((".wants", ".requires")):
                found.update(_names(root / folder / name))
    return found


def _enabled(path: Path, is_wanted: bool) -> str:
    try:
        if os.readlink(path) == "/dev/null":
            return "masked"
    except OSError:
        pass
    if is_wanted:
        return "enabled"
    return "disabled" if "[Install]" in (text(path) or "") else "static"


def _runs(root: Path, name: str) -> bool:
    return any((root / place / name).is_dir() for place in _CGROUPS)


def _systemd_timers(root: Path) -> Iterator[Timer]:
    wanted = _wanted(root)
    for name, path in _units(root, ".timer").items():
        if name in wanted:
            schedules = _SCHEDULE.findall(text(path) or "")
            yield Timer(
                name=name.removesuffix(".timer"),
                source="systemd",
                schedule="; ".join(schedules)[:_TEXT_CHARS] or None,
            )


def _periodic(root: Path) -> Iterator[Timer]:
    for period in _PERIODS:
        for name in _names(root / f"etc/cron.{period}"):
            if not name.startswith("."):
                yield Timer(name=name, source=f"cron.{period}", schedule=f"@{period}", user="root")


def _crontabs(root: Path, unread: list[str]) -> Iterator[Timer]:
    places: list[tuple[str, Path, str | None]] = [("crontab", root / "etc/crontab", None)]
    places += [
        (f"cron.d/{name}", root / "etc/cron.d" / name, None)
        for name in _names(root / "etc/cron.d")
        if not name.startswith(".")
    ]
    spool = next((root / place for place in _SPOOLS if (root / place).is_dir()), None)
    if spool is not None:
        places += [(f"crontab of {name}", spool / name, name) for name in _names(spool)]
    for source, path, user in places:
        table = _table(path, source, unread)
        for schedule, named, command in crontab_lines(table, has_user=user is None):
            word = os.path.basename(command.split()[0]) if command.split() else "?"
            yield Timer(
                name=word, source=source, schedule=schedule, command=command, user=user or named
            )


def _table(path: Path, source: str, unread: list[str]) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 18)
    except FileNotFoundError:
        return ""
    except OSError as e:
        unread.append(f"timers: {source}: {e.strerror}")
        return ""


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
