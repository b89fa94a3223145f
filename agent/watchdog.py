"""When a worker without a beat is hung, and when it only has to wait. Pure decisions.

The beat comes from the loop that does the work. Silence for 15 s with no CPU used is a hang; in
the kernel (D state) for 60 s it is dead storage, and the slot is freed; busy without a beat for
120 s is a hang too. A machine that slept, or that has no time for anybody, is neither.
Source: architecture, "Hang detection".
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Literal

# Of the silence: below it a process counts as idle.
BUSY_SHARE = 0.02
OVERLOAD_PERCENT = 60.0
# Stopped, traced: it does nothing now, whatever it did before.
_STOPPED = frozenset("Tt")

Verdict = Literal["alive", "worker_stalled", "stalled_io"]


@dataclass(frozen=True)
class Patience:
    """How long a silence may last, in seconds: idle, in the kernel, at work."""

    stall_s: float = 15.0
    stall_io_s: float = 60.0
    stall_busy_s: float = 120.0

    @property
    def look_s(self) -> float:
        """How often to look."""
        return self.stall_s / 15.0


PATIENCE = Patience()


@dataclass
class Silence:
    """How long one worker has been silent, and what it did meanwhile."""

    since_s: float
    cpu_s: float
    kernel_since_s: float | None = None


def judge(
    silence: Silence,
    now_s: float,
    cpu_s: float,
    state: str | None,
    overloaded: bool,
    patience: Patience = PATIENCE,
) -> Verdict:
    """Decide about one silent worker.

    Args:
        silence: kept between calls; `kernel_since_s` is updated here.
        cpu_s: CPU time of the process so far.
        state: its state letter as in /proc, None where it cannot be known.
        overloaded: the host has tasks waiting for a CPU most of the time.
        patience: the limits.
    """
    if state == "D":
        if silence.kernel_since_s is None:
            silence.kernel_since_s = now_s
        in_kernel_s = now_s - silence.kernel_since_s
        return "stalled_io" if in_kernel_s >= patience.stall_io_s else "alive"
    silence.kernel_since_s = None
    silent_s = now_s - silence.since_s
    has_worked = cpu_s - silence.cpu_s > silent_s * BUSY_SHARE
    is_patient = (has_worked or overloaded) and state not in _STOPPED
    limit_s = patience.stall_busy_s if is_patient else patience.stall_s
    return "worker_stalled" if silent_s >= limit_s else "alive"


class SleepDetector:
    """Tells how long the machine was suspended since the last look."""

    def __init__(self) -> None:
        self._offset_s = _offset_s()

    def slept_s(self) -> float:
        """Return seconds of suspend since the last call."""
        before, self._offset_s = self._offset_s, _offset_s()
        return max(0.0, self._offset_s - before)


def _offset_s() -> float:
    if sys.platform == "linux":
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
