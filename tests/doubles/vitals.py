"""How a process fares: its memory, its descriptors, what it left behind. Linux only."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
from pathlib import Path

MIB = 1 << 20


def memory(pid: int) -> int:
    """Return the private memory of a process in bytes: what it alone would give back."""
    private = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            private += int(line.split()[1]) * 1024
    return private


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def zombies(parent: int) -> int:
    """Count the ended children that `parent` has not collected."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            count += fields[0] == "Z" and int(fields[1]) == parent
    return count


def marked(mark: str) -> list[int]:
    """Return the living processes whose environment or command line holds `mark`."""
    wanted, found = mark.encode(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            place = Path("/proc", name)
            if (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            if wanted in (place / "environ").read_bytes() + (place / "cmdline").read_bytes():
                found.append(int(name))
    return [pid for pid in found if pid != os.getpid()]


class Vitals:
    """Samples of one process over a run, and whether they stayed flat."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.samples: list[tuple[int, int]] = []

    def sample(self) -> None:
        self.samples.append((memory(self.pid), descriptors(self.pid)))

    def thirds(self) -> list[tuple[float, float]]:
        """Return (memory, descriptors), medians of each third of the samples, three at least."""
        count = len(self.samples)
        cuts = [count * third // 3 for third in range(4)]
        parts = [self.samples[start:end] for start, end in itertools.pairwise(cuts)]
        return [
            (statistics.median(p[0] for p in part), statistics.median(p[1] for p in part))
            for part in parts
        ]

    def growth(self) -> tuple[float, float]:
        """Return by how much memory (bytes) and descriptors grew over the last two thirds."""
        _, second, third = self.thirds()
        return third[0] - second[0], third[1] - second[1]

    def report(self) -> str:
        told = [f"{used / MIB:.1f} MiB, {open_:.0f} fds" for used, open_ in self.thirds()]
        return "agent by thirds of the run: " + "; ".join(told)
