"""`stats`: one resident worker samples, the newest sample goes out.

Rules: the worker is started again when it dies, at once, then after 1, 2, 4 … 30 s; a sample that
waits is replaced by the next one. Source: contract 1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from agent.log import Log
from agent.pool import Pool
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire.limits import BACKOFF_STEPS_S
from wire.telemetry import Sample as Stats1
from wire.telemetry import Stats
from workers.loop import Loop
from workers.messages import End, Hello, Result, Sample, Sampled, TelemetrySpec, ToAgent

LEASE_S = 2.0
WELL_S = 60.0
FAILING = 4
MAX_OVERDUE = 200
RESTART_S = (0.0, *BACKOFF_STEPS_S)


class Keep(Protocol):
    """Takes a sample as JSON."""

    def __call__(self, sample: bytes, *, is_live: bool) -> object: ...


class Telemetry:
    """The family; see the module.

    Args:
        rtt_ms: the link's round trip, if known.
        keep: takes each sample as JSON, and whether it went out live, for the heartbeat.
        overdue: ids of the backups that have had no success for too long.
    """

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        uplink: Uplink,
        interval_s: float,
        version: str,
        rtt_ms: Callable[[], float | None],
        log: Log,
        keep: Keep | None = None,
        overdue: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._uplink = uplink
        self._interval_s = interval_s
        self._version = version
        self._rtt_ms = rtt_ms
        self._log = log
        self.keep = keep
        self._overdue = overdue
        self._worker: Worker | None = None
        self._failures = 0
        self._started_s = 0.0
        self._is_sampling = False
        self._stopping = False

    @property
    def is_failing(self) -> bool:
        """Has one worker after another ended before its time, and has this one told nothing yet?"""
        return self._failures >= FAILING and not self._is_sampling

    def start(self) -> None:
        """Begin to sample."""
        if self._worker is None and not self._stopping:
            self._started_s = self._loop.clock()
            spec = TelemetrySpec(interval_s=self._interval_s)
            self._worker = self._pool.spawn(
                "telemetry", "telemetry", spec, self, {}, lease_s=LEASE_S, durable=False
            )

    def stop(self) -> None:
        """End the worker, for good."""
        self._stopping = True
        if self._worker is not None:
            self._worker.send(End())

    def restart(self) -> None:
        """Give it a new process; a hung one cannot obey."""
        self._failures = 0  # somebody asks for it now, however often it died before
        if self._worker is None:
            self.start()
        else:
            self._worker.kill(Gone(reason="restart"))

    def on_hello(self) -> None:
        """The connection is good: a sample at once."""
        if self._worker is not None:
            self._worker.send(Sample())

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """It samples by itself."""

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """It has no stream."""

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """A sample."""
        self._is_sampling = self._is_sampling or isinstance(message, Sampled)
        is_live = self._uplink.is_up
        if not isinstance(message, Sampled) or not (is_live or self.keep):
            return
        try:
            sample = msgspec.convert(message.data, Stats1)
        except msgspec.ValidationError as e:
            self._log.error("telemetry sample dropped", error=str(e))
            return
        sample = msgspec.structs.replace(
            sample,
            ts=sample.ts or datetime.now(UTC).isoformat(timespec="milliseconds"),
            agent_version=self._version,
            net_latency_ms=self._rtt_ms(),
        )
        if is_live:
            overdue = self._overdue()[:MAX_OVERDUE]
            self._uplink.latest("stats", Stats(data=sample, overdue_backups=overdue or None))
        if self.keep is not None:
            self.keep(msgspec.json.encode(sample), is_live=is_live)

    def on_finished(self, worker: Worker, result: Result) -> None:
        """It was told to end."""
        self._pool.release(worker)
        self._on_end(worker)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """It died: start another."""
        self._pool.drop_record(worker.record.job_id)
        self._on_end(worker)

    def _on_end(self, worker: Worker) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        self._is_sampling = False
        if self._loop.clock() - self._started_s > WELL_S:
            self._failures = 0
        delay_s = RESTART_S[min(self._failures, len(RESTART_S) - 1)]
        self._failures += 1
        self._loop.call_later(delay_s, self.start)
