"""The worker that calls the hub, as the heartbeat uses it: one call, one answer or one failure.

Rules: core thread only; one call at a time; a worker that dies answers its call with a failure and
is started again, at once, then after 1, 2, 4 … 30 s; `refresh` ends it, and the next one has the
credential of then. Source: architecture "Endpoint processes".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.log import Log
from agent.pool import Pool
from agent.worker import Gone, Worker
from wire.limits import BACKOFF_STEPS_S
from workers.loop import Loop
from workers.messages import End, Hello, Result, Stopped, ToAgent, ToWorker
from workers.messages_heartbeat import (
    HeartbeatSpec,
    HubAnswer,
    HubCall,
    HubSilence,
    Renew,
    Renewed,
)

LEASE_S = 2.0
WELL_S = 60.0
RESTART_S = (0.0, *BACKOFF_STEPS_S)
KIND = "heartbeat"


@dataclass(frozen=True)
class Failure:
    """There is no answer: a word, and a sentence for a person."""

    reason: str
    sentence: str


Outcome = HubAnswer | Renewed | Failure
Done = Callable[[Outcome], object]


class Caller:
    """See the module.

    Args:
        spec: how the hub is called now; asked for each new worker.
    """

    def __init__(self, loop: Loop, pool: Pool, spec: Callable[[], HeartbeatSpec], log: Log) -> None:
        self._loop = loop
        self._pool = pool
        self._spec = spec
        self._log = log
        self._worker: Worker | None = None
        self._call_id = 0
        self._done: Done | None = None
        self._failures = 0
        self._started_s = 0.0
        self._is_stopping = False
        self._is_refreshing = False

    def start(self) -> None:
        """Have a worker."""
        if self._worker is None and not self._is_stopping:
            self._started_s = self._loop.clock()
            self._is_refreshing = False
            self._worker = self._pool.spawn(
                KIND, KIND, self._spec(), self, {}, lease_s=LEASE_S, durable=False
            )

    def stop(self) -> None:
        """End the worker, for good."""
        self._is_stopping = True
        if self._worker is not None:
            self._worker.send(End())

    def refresh(self) -> None:
        """Call with the credential of now from the next call on."""
        if self._worker is not None:
            self._is_refreshing = True
            self._worker.send(End(reason="refreshed"))

    def call(
        self,
        path: str,
        body: bytes,
        done: Done,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        """POST something to the hub; `done` is called once."""
        call_id = self._begin(done)
        call = HubCall(
            call_id=call_id, path=path, headers=dict(headers or {}), query=dict(query or {})
        )
        self._tell(call, body)

    def renew(self, done: Done) -> None:
        """Have a new key certified; `done` is called once."""
        self._tell(Renew(call_id=self._begin(done)), b"")

    def _begin(self, done: Done) -> int:
        assert self._done is None, "one call at a time"
        self._done = done
        self._call_id += 1
        return self._call_id

    def _tell(self, message: ToWorker, body: bytes) -> None:
        if self._is_refreshing:
            # The old worker is on its way out, and the new one is not there yet.
            self._loop.call_later(0.05, lambda: self._tell(message, body))
            return
        self.start()
        if self._worker is None:
            self._end(Failure("stopped", "the agent is stopping"))
            return
        self._worker.send_data(body)
        self._worker.send(message)

    def _end(self, outcome: Outcome) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)

    # -- the worker ------------------------------------------------------------------------------

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """What it shall do waits for it already."""

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """It has no stream."""

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """An answer, or why there is none."""
        match message:
            case HubAnswer() | Renewed() if message.call_id == self._call_id:
                self._end(message)
            case HubSilence() if message.call_id in (0, self._call_id):
                self._end(Failure(message.reason, message.sentence))
            case _:
                pass

    def on_finished(self, worker: Worker, result: Result) -> None:
        """It was told to end, or gave up."""
        self._pool.release(worker)
        reason = result.reason if isinstance(result, Stopped) else "worker_died"
        self._on_end(worker, reason)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """It died."""
        self._pool.drop_record(worker.record.job_id)
        self._on_end(worker, gone.reason)

    def _on_end(self, worker: Worker, reason: str) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        if self._is_refreshing:
            self.start()
            return
        if self._loop.clock() - self._started_s > WELL_S:
            self._failures = 0
        delay_s = RESTART_S[min(self._failures, len(RESTART_S) - 1)]
        self._failures += 1
        self._loop.call_later(delay_s, self.start)
        self._end(Failure(reason, "the heartbeat's worker ended before the answer"))
