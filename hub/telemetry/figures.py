"""From a machine's sample to the figures that are kept of it. Pure.

Rules: a fielded agent writes numbers as it likes (fractions, text with a percent sign), and what
cannot be read is missing; nothing that a machine says reaches the database unbounded or with NUL.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from wire import telemetry

MAX_TEXT = 128
MAX_PARTS = 64
MAX_FIGURE = 1e18
_TEXTS = ("hostname", "platform", "release", "arch", "kernel_version", "agent_version")


def figures(sample: telemetry.Sample, rtt_ms: float | None) -> dict[str, float | None]:
    """Return a sample's figures by the name of their column."""
    memory = sample.mem or telemetry.Memory()
    used, total = number(memory.used), number(memory.total)
    net = sample.net or ()
    return {
        "cpu": number(sample.cpu),
        "mem_percent": _percent(used, total),
        "mem_used": used,
        "load1": number(sample.load.one) if sample.load else None,
        "disk_percent": _disk_percent(sample),
        "rx_bps": _sum(one.rx_bps for one in net),
        "tx_bps": _sum(one.tx_bps for one in net),
        "rtt_ms": rtt_ms,
    }


def texts(sample: telemetry.Sample) -> dict[str, str]:
    """Return what a sample says of the machine itself."""
    found = {name: _text(getattr(sample, name)) for name in _TEXTS}
    return {name: value for name, value in found.items() if value}


def kept(sample: telemetry.Sample) -> dict[str, Any]:
    """Return a sample as JSON that any database takes."""
    bounded = msgspec.structs.replace(
        sample,
        disk=None if sample.disk is None else sample.disk[:MAX_PARTS],
        net=None if sample.net is None else sample.net[:MAX_PARTS],
    )
    built: dict[str, Any] = _clean(msgspec.to_builtins(bounded))
    return built


def number(value: object) -> float | None:
    """Read a figure."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= MAX_FIGURE and math.isfinite(value) else None


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else round(100 * part / whole, 2)


def _disk_percent(sample: telemetry.Sample) -> float | None:
    given = number(sample.disk_percent)
    if given is not None:
        return given
    found = [percent for disk in sample.disk or () if (percent := _capacity(disk)) is not None]
    return max(found, default=None)


def _capacity(disk: telemetry.Disk) -> float | None:
    if isinstance(disk.capacity, str):
        try:
            return number(float(disk.capacity.strip().rstrip("%")))
        except ValueError:
            return None
    return number(disk.capacity)


def _sum(values: Any) -> float | None:
    found = [value for one in values if (value := number(one)) is not None]
    return sum(found) if found else None


def _text(value: object) -> str:
    return _clean(value)[:MAX_TEXT] if isinstance(value, str) else ""


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(char for char in value[:1024] if char.isprintable())
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    if isinstance(value, int | float):
        return value if number(value) is not None or isinstance(value, bool) else None
    return value
