"""When a worker without a beat is hung, and when it only has to wait. Pure decisions.

The beat comes from the loop that does the work. Silence for 15 s with no CPU used is a hang; in
the kernel (D state) for 60 s it is dead storage, and the slot is freed; busy without a beat for
120 s is a hang too. A machine that slept, or that has no time for anybody, is neither.
Source: architecture, "Hang detection".
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

STALL_S = 15.0
STALL_IO_S = 60.0
STALL_BUSY_S = 120.0
# Of the silence: below it a process counts as idle. A stopped one has none at all.
BUSY_SHARE = 0.02
OVERLOAD_PERCENT = 60.0

Verdict = Literal["alive", "worker_stalled", "stalled_io"]


@dataclass
class Silence:
    """How long one worker has been silent, and what it did meanwhile."""

    since_s: float
    cpu_s: float
    kernel_since_s: float | None = None


def judge(
    silence: Silence, now_s: float, cpu_s: float, state: str | None, overloaded: bool
) -> Verdict:
    """Decide about one silent worker.

    Args:
        silence: kept between calls; `kernel_since_s` is updated here.
        cpu_s: CPU time of the process so far.
        state: its state letter as in /proc, None where it cannot be known.
        overloaded: the host has tasks waiting for a CPU most of the time.
    """
    if state == "D":
        if silence.kernel_since_s is None:
            silence.kernel_since_s = now_s
        return "stalled_io" if now_s - silence.kernel_since_s >= STALL_IO_S else "alive"
    silence.kernel_since_s = None
    silent_s = now_s - silence.since_s
    busy = cpu_s - silence.cpu_s > silent_s * BUSY_SHARE
    limit = STALL_BUSY_S if busy or (overloaded and state != "T") else STALL_S
    return "worker_stalled" if silent_s >= limit else "alive"


class SleepDetector:
    """Tells how long the machine was suspended since the last look."""

    def __init__(self) -> None:
        self._offset_s = _offset_s()

    def slept_s(self) -> float:
        """Return seconds of suspend since the last call."""
        before, self._offset_s = self._offset_s, _offset_s()
        return max(0.0, self._offset_s - before)


def _offset_s() -> float:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return 0.0


def is_overloaded() -> bool:
    """Is some task waiting for a CPU more than 60 % of the last 10 s (PSI)?"""
    try:
        with open("/proc/pressure/cpu", encoding="ascii") as file:
            fields = file.readline().split()
        return float(fields[1].partition("=")[2]) > OVERLOAD_PERCENT
    except (OSError, ValueError, IndexError):
        return False
