"""A pool whose workers are nobody: a test says in their place what they say."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, cast

from agent.pool import Pool
from agent.worker import Gone, Owner, Worker
from workers.jobs import JobRecord, worker_id_of
from workers.messages import Hello, Result, Spec, ToWorker


class WorkerDouble:
    """Keeps what it was told; `hello`, `says`, `ends` and `dies` speak to its owner.

    As with a real one, `release` or death is its only end, and its owner hears one final thing.
    """

    def __init__(self, record: JobRecord, owner: Owner, spec: Spec | None) -> None:
        self.record = record
        self.owner = owner
        self.spec: Any = spec
        self.state = "RUNNING"
        self.result: Result | None = None
        self.started_s = 0.0
        self.last_beat_s: float | None = None
        self.progress = 0
        self.child_pid: int | None = None
        self.told: list[ToWorker] = []
        self.typed: list[bytes] = []
        self.killed: list[Gone] = []
        self.forgotten = False

    @property
    def id(self) -> str:
        return self.record.worker_id

    @property
    def pid(self) -> int:
        return self.record.pid

    def send(self, message: ToWorker) -> None:
        self.told.append(message)

    def send_data(self, data: bytes) -> None:
        self.typed.append(data)

    def kill(self, gone: Gone) -> None:
        self.killed.append(gone)

    def forget(self) -> None:
        self.forgotten = True

    def of(self, kind: type) -> list[Any]:
        """Return what it was told of one kind."""
        return [message for message in self.told if isinstance(message, kind)]

    # What it says.

    def hello(self, *, started: bool = True, offset: int = 0, kept_from: int = 0) -> None:
        hello = Hello(
            kind=self.record.kind,
            job_id=self.record.job_id,
            pid=1,
            started=started,
            finished=False,
            offset=offset,
            kept_from=kept_from,
        )
        self.owner.on_ready(cast(Worker, self), hello)

    def says(self, message: Any) -> None:
        self.owner.on_mail(cast(Worker, self), message)

    def prints(self, offset: int, data: bytes, stream: int = 0) -> None:
        self.owner.on_output(cast(Worker, self), stream, offset, data)

    def ends(self, result: Result) -> None:
        self.result = result
        self.owner.on_finished(cast(Worker, self), result)

    def dies(self, reason: str = "worker_died", **fields: Any) -> None:
        self.state = "EXITED"
        self.owner.on_gone(cast(Worker, self), Gone(reason=reason, **fields))


class PoolDouble:
    """See the module."""

    def __init__(self) -> None:
        self.workers: list[WorkerDouble] = []
        self.released: list[WorkerDouble] = []
        self.dropped: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.fatal: set[str] = set()

    @property
    def as_pool(self) -> Pool:
        return cast(Pool, self)

    def __iter__(self) -> Iterator[WorkerDouble]:
        return iter([each for each in self.workers if each not in self.released])

    def find(self, worker_id: str) -> WorkerDouble | None:
        return next((each for each in self if each.id == worker_id), None)

    def spawn(
        self,
        kind: str,
        key: str,
        spec: Spec,
        owner: Owner,
        wire: dict[str, Any],
        **options: Any,
    ) -> WorkerDouble:
        made = WorkerDouble(record_of(kind, key, wire), owner, spec)
        self.workers.append(made)
        self.options.append(options)
        return made

    def adopted(self, record: JobRecord, owner: Owner) -> WorkerDouble:
        """A worker of an earlier agent."""
        made = WorkerDouble(record, owner, None)
        self.workers.append(made)
        return made

    def release(self, worker: WorkerDouble) -> None:
        worker.forget()
        self.released.append(worker)
        self.dropped.append(worker.record.job_id)

    def drop_record(self, job_id: str) -> None:
        self.dropped.append(job_id)


def record_of(kind: str, key: str, wire: dict[str, Any] | None = None) -> JobRecord:
    """Return a record as the pool makes them."""
    worker_id = worker_id_of(kind, key)
    return JobRecord(
        job_id=f"{worker_id}.{secrets.token_hex(3)}",
        worker_id=worker_id,
        kind=kind,
        key=key,
        pid=4711,
        start_time=1,
        boot_id="boot",
        address="/nowhere",
        token=b"t" * 32,
        wire=wire or {},
    )
