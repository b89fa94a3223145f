"""At start: what an earlier agent left. Workers are adopted, everything else is reported once.

Rules: runs before the link is up and before socketio is imported; a worker is adopted only when
pid, start time and boot id match its record; a job whose final is in the outbox already is over; a
record is removed only after its final is stored. Source: architecture, "Adoption".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from agent.log import Log
from agent.pool import Pool
from agent.worker import Gone, Owner, Worker
from workers import jobs
from workers.jobs import JobRecord, Spool
from workers.messages import End


class Adopter(Owner, Protocol):
    """A family whose jobs outlive an agent."""

    def adopt(self, worker: Worker, record: JobRecord) -> None:
        """Go on with a job."""

    def recover(
        self, record: JobRecord, spool: Spool | None, on_stored: Callable[[], object]
    ) -> None:
        """Report a job that has ended, or is lost."""


def adopt_all(
    pool: Pool,
    state_dir: str,
    adopters: Mapping[str, Adopter],
    loner: Owner,
    is_final_known: Callable[[str], bool],
    log: Log,
) -> int:
    """Go through all records.

    Args:
        adopters: by kind; a kind without one (telemetry, a listing) is ended and forgotten.
        loner: owns the workers of such kinds while they end.
        is_final_known: is a job's final in the outbox already?

    Returns:
        How many workers were adopted.
    """
    records, unusable = jobs.read_records(state_dir)
    for name in unusable:
        log.error("job record unusable", file=name)
    adopted = 0
    for record in records:
        adopter = adopters.get(record.kind)
        worker = pool.adopt(record, adopter or loner)
        try:
            if worker is not None:
                _take(pool, worker, record, adopter, is_final_known)
                adopted += 1
            elif adopter is None or is_final_known(record.job_id):
                pool.drop_record(record.job_id)
            else:
                _recover(pool, state_dir, record, adopter)
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as e:
            # Its family cannot make out what it was: no reason not to start.
            log.error("job record makes no sense", job=record.job_id, error=repr(e))
            if worker is not None:
                worker.kill(Gone(reason="agent_restarted"))
    return adopted


def _recover(pool: Pool, state_dir: str, record: JobRecord, adopter: Adopter) -> None:
    pool.sweep(record.job_id)
    spool = jobs.read_spool(state_dir, record.job_id)
    adopter.recover(record, spool, _dropper(pool, record.job_id))


def _take(
    pool: Pool,
    worker: Worker,
    record: JobRecord,
    adopter: Adopter | None,
    is_final_known: Callable[[str], bool],
) -> None:
    if adopter is None:
        worker.send(End())
    elif is_final_known(record.job_id):
        pool.release(worker)
    else:
        adopter.adopt(worker, record)


def _dropper(pool: Pool, job_id: str) -> Callable[[], object]:
    return lambda: pool.drop_record(job_id)
