"""The telemetry kind: a sample of this machine every interval, and at once when it is asked for.

Rules: confined before it reads anything; counters are read at the start, so that the first sample
covers a real interval: asked for earlier than MIN_INTERVAL_S after the last one, a sample waits
until then. One sample at a time; a late mount delays it by mounts.DEADLINE_S at most. Units do not
change: bytes, bytes a second, percent, seconds.

Source: contract 1.9; architecture "Privileges".
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from workers.kind import Desk, StreamlessWorker, Worker
from workers.loop import Timer
from workers.messages import Sample, Sampled, Spec, Stopped, TelemetrySpec, ToWorker
from workers.telemetry import machine
from workers.telemetry.mounts import Mount, Spaces, list_mounts
from workers.telemetry.rates import Rates, Totals

MIN_INTERVAL_S = 0.5
_ROOT = os.path.abspath(os.sep)


class TelemetryWorker(StreamlessWorker):
    """One machine, watched.

    Args:
        confine: gives up every right that sampling does not need; called once, first of all.
        spaces: asks the mounts.
    """

    def __init__(
        self,
        desk: Desk,
        confine: Callable[[Desk], None],
        spaces: Spaces | None = None,
        mounts: Callable[[], list[Mount]] = list_mounts,
    ) -> None:
        self._desk = desk
        self._confine = confine
        self._spaces = spaces or Spaces(desk.loop, desk.log)
        self._mounts = mounts
        self._timer: Timer | None = None
        self._is_sampling = False

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, TelemetrySpec)
        # 1.9 MiB: only here. Code, not data: it may be out of reach once we are confined.
        import psutil

        self._confine(self._desk)
        self._psutil = psutil
        self._interval_s = spec.interval_s
        self._facts = machine.facts()
        self._last_s = self._desk.loop.clock()
        self._rates = Rates(self._totals(), self._last_s)
        psutil.cpu_percent(None)  # the first call only remembers the counters
        self._sample_in(self._interval_s)

    def on_message(self, message: ToWorker) -> None:
        if isinstance(message, Sample):
            self._sample_in(self._last_s + MIN_INTERVAL_S - self._desk.loop.clock())
        else:
            super().on_message(message)

    def end(self, reason: str) -> None:
        self._desk.finish(Stopped(reason=reason))

    def _sample_in(self, delay_s: float) -> None:
        if self._is_sampling:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._desk.loop.call_later(delay_s, self._sample)

    def _sample(self) -> None:
        self._is_sampling = True
        self._spaces.measure(self._mounts(), self._send)

    def _send(self, disk: list[dict[str, Any]]) -> None:
        self._is_sampling = False
        self._desk.send(Sampled(data=self._data(disk)))
        self._desk.progress()
        self._sample_in(self._interval_s)

    def _data(self, disk: list[dict[str, Any]]) -> dict[str, Any]:
        self._last_s = self._desk.loop.clock()
        memory = self._psutil.virtual_memory()
        data: dict[str, Any] = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "cpu": self._psutil.cpu_percent(None),
            "mem": {
                "used": memory.total - memory.available,
                "free": memory.available,
                "total": memory.total,
            },
            **_load(),
            "disk": disk,
            "net": self._rates.next(self._totals(), self._last_s),
            "uptimeSec": self._uptime_s(),
            "hostname": socket.gethostname(),
            **self._facts,
        }
        for row in disk:
            if row["mount"] == _ROOT:
                data["diskPercent"] = row["capacity"]
        return data

    def _totals(self) -> dict[str, Totals]:
        counters = self._psutil.net_io_counters(pernic=True, nowrap=False)
        return {name: Totals(each.bytes_recv, each.bytes_sent) for name, each in counters.items()}

    def _uptime_s(self) -> int:
        if sys.platform == "linux":
            return int(self._desk.loop.clock())  # CLOCK_BOOTTIME: no wall clock in it
        else:
            return int(datetime.now(UTC).timestamp() - self._psutil.boot_time())


def make(desk: Desk) -> Worker:
    """Return the worker that `workers.entry` runs."""
    return TelemetryWorker(desk, confine_telemetry)


def confine_telemetry(desk: Desk) -> None:
    """Give up everything: what telemetry reads, every confined kind may read."""
    if sys.platform != "win32":
        from workers.confine import Confinement, confine

        report = confine(Confinement(secret_dirs=tuple(desk.secret_dirs), fallback_user="nobody"))
        for sentence in report.missing:
            desk.log("warning", "worker less confined", kind="telemetry", missing=sentence)


def _load() -> dict[str, dict[str, float]]:
    if sys.platform == "win32":
        return {}
    averages = dict(
        zip(("1m", "5m", "15m"), (round(load, 2) for load in os.getloadavg()), strict=True)
    )
    return {"load": averages}
