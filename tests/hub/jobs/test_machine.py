"""The queue as a state machine: whatever crashes, is lost or restored, nothing runs twice.

The other side is a model of an agent: it remembers the ids that it ran, keeps results until they
are taken, and loses its link, its hub or its memory of a job at any moment. The hub is the real
service over a real database file, which is copied aside and put back as a backup would be.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import select, update

from hub.agents.models import Asset
from hub.db.database import Database
from hub.errors import ConflictError, NotFoundError
from hub.jobs import reconciliation, service, sweeps
from hub.jobs.models import Job
from hub.jobs.states import State
from tests.doubles.job_parts import KIND, HeldLink, machine, operator, order
from wire.connect import JobState

WINDOW = 3
FINAL = {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED}


class Queue(RuleBasedStateMachine):
    """See the module."""

    jobs = Bundle("jobs")
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jl-queue-"))
        shutil.copy(self.template, self.folder / "hub.db")
        self.database = self.opened()
        self.who = operator(self.database, "otto")
        self.asset, self.agent = machine(self.database, self.who.tenant_id, "m1")
        self.runs: dict[str, int] = {}
        self.order_of_runs: list[str] = []
        self.submitted: list[str] = []
        self.running: set[str] = set()
        self.outbox: list[str] = []
        self.taken: dict[str, int] = {}
        self.seen: dict[str, str] = {}
        self.is_linked = False
        self.backup: tuple[dict[str, str], dict[str, int]] | None = None

    def opened(self) -> Database:
        return Database(f"sqlite:///{self.folder}/hub.db")

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    # -- what people do ------------------------------------------------------------------------

    @rule(target=jobs, waits=st.booleans())
    def submit(self, waits: bool) -> str:
        asked = order(when_offline="queue" if waits else "skip")

        def unit(session: Any) -> Job:
            asset = session.get(Asset, self.asset.id)
            return service.submit(session, self.who, asset, KIND, asked, is_online=self.is_linked)[
                0
            ]

        job_id = self.database.write_now(self.who.tenant_id, unit).id
        self.submitted.append(job_id)
        return job_id

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        def unit(session: Any) -> None:
            service.request_cancel(session, self.who, job_id, lambda _job: True)

        try:
            self.database.write_now(self.who.tenant_id, unit)
        except (ConflictError, NotFoundError):
            pass  # it has ended, or an older database does not know it

    # -- what the hub does ---------------------------------------------------------------------

    @precondition(lambda self: self.is_linked)
    @rule(lost=st.booleans())
    def hand_out(self, lost: bool) -> None:
        """Claim and send; `lost`: the hub or the link dies in between."""
        claimed = self.database.write_now(
            self.who.tenant_id,
            lambda session: service.claim(session, self.asset.id, self.agent.id, WINDOW),
        )
        if not lost:
            for job in claimed:
                self.deliver(job.id)

    @precondition(lambda self: self.is_linked)
    @rule()
    def hand_out_to_a_broken_link(self) -> None:
        """Claim, and be told that nothing was sent."""

        def unit(session: Any) -> None:
            claimed = service.claim(session, self.asset.id, self.agent.id, WINDOW)
            service.release(session, [job.id for job in claimed])

        self.database.write_now(self.who.tenant_id, unit)

    @rule(job_id=jobs)
    def time_passes_for(self, job_id: str) -> None:
        """Its expiry and its deadline are over."""

        def unit(session: Any) -> None:
            session.execute(update(Job).where(Job.id == job_id).values(expires_ms=0))
            session.execute(
                update(Job)
                .where(Job.id == job_id, Job.deadline_ms.is_not(None))
                .values(deadline_ms=0)
            )

        self.database.write_now(None, unit)
        self.database.write_now(None, sweeps.sweep)

    @rule()
    def restart_the_hub(self) -> None:
        self.is_linked = False
        self.database.close()
        self.database = self.opened()

    @rule()
    def back_up(self) -> None:
        self.database.close()
        shutil.copy(self.folder / "hub.db", self.folder / "backup.db")
        self.backup = (dict(self.seen), dict(self.taken))
        self.database = self.opened()

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore(self) -> None:
        self.is_linked = False
        self.database.close()
        for name in ("hub.db", "hub.db-wal", "hub.db-shm"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.copy(self.folder / "backup.db", self.folder / "hub.db")
        assert self.backup is not None
        self.seen, self.taken = dict(self.backup[0]), dict(self.backup[1])
        self.database = self.opened()
        self.database.write_now(None, sweeps.after_restore)
        self.seen = self.states()

    # -- what the agent does -------------------------------------------------------------------

    def deliver(self, job_id: str) -> None:
        if job_id not in self.runs:
            self.order_of_runs.append(job_id)
        self.runs[job_id] = self.runs.get(job_id, 0) + 1
        self.running.add(job_id)

    @precondition(lambda self: self.running)
    @rule(is_lost=st.booleans())
    def command_ends(self, is_lost: bool) -> None:
        """With its result in the outbox; or the machine loses it, result and all."""
        job_id = min(self.running)
        self.running.discard(job_id)
        if not is_lost:
            self.outbox.append(job_id)

    @precondition(lambda self: self.is_linked and self.outbox)
    @rule(is_acknowledged=st.booleans())
    def result_arrives(self, is_acknowledged: bool) -> None:
        job_id = self.outbox[0]
        ended = self.database.write_now(
            self.who.tenant_id,
            lambda session: service.finish(session, job_id, State.SUCCEEDED, result={"code": 0}),
        )
        if ended is not None:
            self.taken[job_id] = self.taken.get(job_id, 0) + 1
        if is_acknowledged:
            self.outbox.pop(0)

    @precondition(lambda self: not self.is_linked)
    @rule()
    def link(self) -> None:
        """Compare; the outbox comes first, so what is missing then is lost."""
        self.is_linked = True
        listed = tuple(JobState(id=one, kind="admin", state="running") for one in self.running)
        held = HeldLink(self.agent.id, self.asset.id, self.who.tenant_id, jobs=listed)
        found = self.database.write_now(
            self.who.tenant_id,
            lambda session: reconciliation.compare(session, held, lambda _kind: KIND),
        )
        while self.outbox:
            self.result_arrives(is_acknowledged=True)
        lost = [job.id for job in found.unlisted]
        self.database.write_now(
            self.who.tenant_id, lambda session: sweeps.end_missing(session, lost)
        )

    @precondition(lambda self: self.is_linked)
    @rule()
    def unlink(self) -> None:
        self.is_linked = False

    # -- what always holds ---------------------------------------------------------------------

    def states(self) -> dict[str, str]:
        def unit(session: Any) -> dict[str, str]:
            return {job.id: job.state for job in session.scalars(select(Job))}

        return self.database.read_now(None, unit)

    @initialize()
    def nothing_yet(self) -> None:
        self.seen = {}

    @invariant()
    def nothing_runs_twice(self) -> None:
        assert all(count == 1 for count in self.runs.values()), self.runs

    @invariant()
    def each_result_is_taken_once(self) -> None:
        assert all(count == 1 for count in self.taken.values()), self.taken

    @invariant()
    def an_end_is_for_ever_and_steps_are_legal(self) -> None:
        now = self.states()
        for job_id, before in self.seen.items():
            if before in FINAL:
                assert now[job_id] == before
        self.seen = now

    @invariant()
    def what_ran_was_never_cancelled_or_expired_before(self) -> None:
        now = self.states()
        for job_id in self.runs:
            assert now.get(job_id) not in (State.EXPIRED, State.QUEUED, State.CANCELLED)

    @invariant()
    def jobs_run_in_the_order_in_which_they_were_asked_for(self) -> None:
        """Save over a restored database, whose numbers start again."""
        if self.backup is None:
            assert self.order_of_runs == sorted(self.order_of_runs, key=self.submitted.index)


def test_nothing_runs_twice_whatever_happens(sqlite_template: Path, soak: bool) -> None:
    Queue.template = sqlite_template
    case = Queue.TestCase
    case.settings = settings(
        max_examples=400 if soak else 25,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    case().runTest()
