"""Data collection: take stock of the machine, or sample it, in a worker, one command at a time.

Rules: core thread; a command is begun once, in the order in which it came; a type that is not known
is reported and never carried out; the machine's own policy and its kill switch are asked first; a
worker that dies or hangs is its command's error. The inventory that the heartbeat wants for itself
waits its turn like any command.

Source: contract part 2; architecture "Policy, one engine".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from agent.heartbeat_store import Offer
from agent.log import Log
from agent.pool import Pool
from agent.worker import Gone, Worker
from wire import limits
from wire.commands import CollectInventory, CollectTelemetry, CommandError, CommandType
from workers.loop import Loop, Timer
from workers.messages import (
    End,
    Hello,
    Result,
    Sample,
    Sampled,
    Spec,
    TelemetrySpec,
    ToAgent,
)
from workers.messages_heartbeat import Collected, InventorySpec

LEASE_S = 2.0
PATIENCE_S = 120.0
STOCK_KEY = "stock"
T = TypeVar("T")


class Reports(Protocol):
    """What is told of a command."""

    def begun(self, command_id: str) -> None: ...

    def ended(
        self,
        command_id: str,
        error: str | None,
        summary: dict[str, Any] | None = None,
        artifact: bytes | None = None,
    ) -> None: ...

    def stocktaken(self, text: bytes, digest: str) -> None:
        """A whole inventory is there, whoever asked for it."""


@dataclass
class _Job:
    """One command of the hub's that is being carried out."""

    offer: Offer
    deadline: Timer | None = None
    worker: Worker | None = None
    text: bytearray = field(default_factory=bytearray)
    samples: list[dict[str, Any]] = field(default_factory=list)
    wanted: int = 0
    is_whole: bool = False


class Collection:
    """See the module.

    Args:
        refusal: why nothing is collected now (a word of `CommandError`), or None.
        facts: version, profile and digest of the policy, for an inventory.
        hub_s: the hub's clock, seconds since the epoch, as well as it is known.
    """

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        reports: Reports,
        refusal: Callable[[], str | None],
        facts: Callable[[], dict[str, str]],
        is_expired: Callable[[str], bool],
        log: Log,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._reports = reports
        self._refusal = refusal
        self._facts = facts
        self._is_expired = is_expired
        self._log = log
        self._queue: deque[Offer] = deque()
        self._job: _Job | None = None

    def run(self, offer: Offer) -> None:
        """Carry a command out, when its turn comes."""
        self._queue.append(offer)
        self._next()

    def take_stock(self) -> None:
        """Take the heartbeat's own inventory."""
        if not any(offer.command_id == "" for offer in self._waiting()):
            self.run(Offer("", CommandType.COLLECT_INVENTORY, {}, ""))

    def _waiting(self) -> list[Offer]:
        return [*self._queue, *([self._job.offer] if self._job is not None else [])]

    def _next(self) -> None:
        while self._job is None and self._queue:
            offer = self._queue.popleft()
            error = self._begin(offer)
            if error is not None:
                self._job = None
                self._tell_end(offer, error)

    def _begin(self, offer: Offer) -> str | None:
        """Start a command's worker; return why not."""
        if offer.expires_at and self._is_expired(offer.expires_at):
            return CommandError.EXPIRED
        try:
            job, kind, spec = self._prepared(offer)
        except msgspec.ValidationError:
            return CommandError.BAD_PARAMS
        except ValueError:
            return CommandError.UNSUPPORTED_TYPE
        if (refused := self._refusal()) is not None:
            return refused
        self._job = job
        if offer.command_id:
            self._reports.begun(offer.command_id)
        key = offer.command_id or STOCK_KEY
        job.worker = self._pool.spawn(kind, key, spec, self, {}, lease_s=LEASE_S, durable=False)
        job.deadline = self._loop.call_later(PATIENCE_S + job.wanted * 60.0, self._on_late)
        return None

    def _prepared(self, offer: Offer) -> tuple[_Job, str, Spec]:
        """Read a command.

        Raises:
            ValueError: its type is not known.
            msgspec.ValidationError: its parameters are not that type's.
        """
        job = _Job(offer)
        match CommandType(offer.command_type):
            case CommandType.COLLECT_INVENTORY:
                sections: list[str] = [*(_read(offer, CollectInventory).sections or ())]
                job.is_whole = not sections
                return job, "inventory", InventorySpec(sections=sections, **self._facts())
            case CommandType.COLLECT_TELEMETRY:
                told = _read(offer, CollectTelemetry)
                job.wanted = told.samples
                return job, "telemetry", TelemetrySpec(interval_s=told.interval_sec)

    # -- the worker ------------------------------------------------------------------------------

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """A sampler gives its first sample at once; a stocktaker works by itself."""
        if self._job is not None and self._job.worker is worker and self._job.wanted:
            worker.send(Sample())

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """A part of an inventory."""
        job = self._job
        if job is None or job.worker is not worker:
            return
        if offset != len(job.text) or offset + len(data) > limits.MAX_INVENTORY_BYTES:
            self._end(CommandError.INTERNAL)
            return
        job.text += data

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """A sample."""
        job = self._job
        if job is None or job.worker is not worker or not isinstance(message, Sampled):
            return
        job.samples.append(message.data)
        if len(job.samples) >= job.wanted:
            worker.send(End())
            self._end(None)

    def on_finished(self, worker: Worker, result: Result) -> None:
        """An inventory is complete, or a worker was ended."""
        self._pool.release(worker)
        if self._job is None or self._job.worker is not worker:
            return
        if not isinstance(result, Collected) or result.error is not None:
            self._end(_word(result.error if isinstance(result, Collected) else None))
        elif result.bytes != len(self._job.text):
            self._end(CommandError.INTERNAL)
        else:
            self._end_stock(self._job, result)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """It died."""
        self._pool.drop_record(worker.record.job_id)
        if self._job is not None and self._job.worker is worker:
            self._end(_word(gone.reason))

    # -- its end ---------------------------------------------------------------------------------

    def _on_late(self) -> None:
        if self._job is not None and self._job.worker is not None:
            self._job.worker.kill(Gone(reason="worker_stalled"))
            self._end(CommandError.TIMEOUT)

    def _end_stock(self, job: _Job, result: Collected) -> None:
        text = bytes(job.text)
        if job.is_whole:
            self._reports.stocktaken(text, result.digest)
        summary: dict[str, Any] = {
            "digest": result.digest,
            "bytes": result.bytes,
            "counts": result.counts,
            "incomplete": result.incomplete[:50],
        }
        if len(text) <= limits.MAX_SUMMARY_BYTES // 2:
            self._end(None, {**summary, "inventory": msgspec.json.decode(text)})
        else:
            self._end(None, summary, text)

    def _end(
        self,
        error: str | None,
        summary: dict[str, Any] | None = None,
        artifact: bytes | None = None,
    ) -> None:
        job, self._job = self._job, None
        if job is None:
            return
        if job.deadline is not None:
            job.deadline.cancel()
        if job.wanted and error is None:
            summary, artifact = _samples(job.samples)
        self._tell_end(job.offer, error, summary, artifact)
        self._loop.call_soon(self._next)

    def _tell_end(
        self,
        offer: Offer,
        error: str | None,
        summary: dict[str, Any] | None = None,
        artifact: bytes | None = None,
    ) -> None:
        if error is not None:
            self._log.warning("data was not collected", type=offer.command_type[:64], why=error)
        if offer.command_id:
            self._reports.ended(offer.command_id, error, summary, artifact)


def _read(offer: Offer, cls: type[T]) -> T:
    return msgspec.convert(offer.params, cls)


def _samples(samples: list[dict[str, Any]]) -> tuple[dict[str, Any], bytes | None]:
    """Sum up; all samples go with it, or beside it where they are many."""
    text = msgspec.json.encode(samples)
    if len(text) <= limits.MAX_SUMMARY_BYTES // 2:
        return {"count": len(samples), "samples": samples}, None
    return {"count": len(samples), "last": samples[-1]}, text


def _word(reason: str | None) -> str:
    """A worker's reason in the words of a command's error."""
    try:
        return CommandError(reason or "")
    except ValueError:
        return CommandError.WORKER_DIED
