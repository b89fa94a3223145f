"""The queue: in order, once, to the end, whoever is offline."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import ConflictError, NotFoundError, UnavailableError
from hub.jobs import service, sweeps
from hub.jobs.kinds import JobKind
from hub.jobs.models import Job
from hub.jobs.ports import Link
from hub.jobs.queue import WINDOW, Jobs
from hub.jobs.reconciliation import Reconciliation
from hub.jobs.states import State
from hub.operators.models import Login, User
from tests.doubles.job_parts import (
    KIND,
    HeardConsole,
    HeldInbox,
    HeldLink,
    HeldLinks,
    Sidelines,
    machine,
    message_of,
    operator,
    order,
)
from wire.admin import AdminRun
from wire.connect import JobState


class Parts:
    """A queue with its neighbours, one operator and one machine."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.links, self.console, self.side = HeldLinks(), HeardConsole(), Sidelines()
        self.jobs = Jobs(database, self.links, self.console, self.side.later)
        self.jobs.register(KIND)
        self.reconciliation = Reconciliation(self.jobs, HeldInbox(), self.side.later, quiet_s=0.05)
        self.who: Principal = operator(database, "otto")
        self.asset, self.agent = machine(database, self.who.tenant_id, "m1")

    def link(self, *listed: str, features: frozenset[str] | str | None = "all") -> HeldLink:
        link = HeldLink(self.agent.id, self.asset.id, self.who.tenant_id)
        if not isinstance(features, str):
            link.features = features
        link.jobs = tuple(JobState(id=one, kind="admin", state="running") for one in listed)
        self.links.by_asset[self.asset.id] = link
        return link

    def unlink(self) -> None:
        del self.links.by_asset[self.asset.id]

    async def start(self, command: str = "uptime", **more: object) -> Job:
        return await self.jobs.start(self.who, self.asset.id, "admin", order(command, **more))

    async def job(self, job_id: str) -> Job:
        return await self.database.read(None, service.get, job_id)

    async def state(self, job: Job) -> str:
        return (await self.job(job.id)).state

    async def finish(self, job: Job, state: State = State.SUCCEEDED) -> Job | None:
        def unit(session: Session) -> Job | None:
            return service.finish(session, job.id, state, result={"code": 0})

        ended = await self.database.write(self.who.tenant_id, unit)
        if ended is not None:
            self.jobs.changed(ended)
        return ended

    async def change(self, job: Job, **values: object) -> None:
        def unit(session: Session) -> None:
            session.execute(update(Job).where(Job.id == job.id).values(**values))

        await self.database.write(None, unit)


@pytest.fixture
def parts(database: Database) -> Parts:
    return Parts(database)


def commands(link: HeldLink) -> list[str]:
    return [one.cmd.command for one in link.sent if isinstance(one, AdminRun)]


def test_job_for_a_linked_machine_is_sent_at_once_with_its_id(parts: Parts) -> None:
    async def run() -> None:
        link = parts.link()
        job = await parts.start("uptime")
        await parts.side.settle()
        assert [one.job_id for one in link.sent if isinstance(one, AdminRun)] == [job.id]
        assert parts.console.states(job.id) == ["queued", "sent"]
        assert await parts.finish(job) is not None
        assert await parts.finish(job, State.FAILED) is None
        assert parts.console.states(job.id) == ["queued", "sent", "succeeded"]

    asyncio.run(run())


def test_jobs_for_an_offline_machine_wait_and_leave_in_order_when_it_is_back(parts: Parts) -> None:
    async def run() -> None:
        jobs = [await parts.start(f"c{n}") for n in range(WINDOW + 3)]
        link = parts.link()
        await parts.reconciliation.linked(link)
        await parts.side.settle()
        assert commands(link) == [f"c{n}" for n in range(WINDOW)]
        await parts.finish(jobs[0])
        await parts.side.settle()
        assert commands(link) == [f"c{n}" for n in range(WINDOW + 1)]

    asyncio.run(run())


def test_offline_machine_skips_or_refuses_as_the_caller_chose(parts: Parts) -> None:
    async def run() -> None:
        job = await parts.start(when_offline="skip")
        assert (job.state, job.error) == ("cancelled", "skipped")
        with pytest.raises(UnavailableError) as caught:
            await parts.start(when_offline="fail")
        assert caught.value.code == "agent_offline"
        in_batch = await parts.start(when_offline="fail", batch_id="b1")
        assert (in_batch.state, in_batch.error) == ("failed", "agent_offline")
        assert any(topic == "batch:b1" for _, topic, _, _ in parts.console.heard)

    asyncio.run(run())


def test_message_that_was_not_sent_waits_again(parts: Parts) -> None:
    async def run() -> None:
        link = parts.link()
        link.is_broken = True
        job = await parts.start()
        await parts.side.settle()
        assert await parts.state(job) == "queued"
        link.is_broken = False
        await parts.jobs.sweep()
        await parts.side.settle()
        assert commands(link) == ["uptime"]

    asyncio.run(run())


def test_message_that_the_agent_does_not_know_fails_its_job_and_holds_none_up(
    parts: Parts,
) -> None:
    def refuse(_job: Job, _features: frozenset[str] | None) -> list[AdminRun]:
        raise ConflictError("no", code="unsupported")

    parts.jobs.register(JobKind(name="new", action="admin.run", messages=refuse))

    async def run() -> None:
        link = parts.link()
        who, asset_id = parts.who, parts.asset.id
        odd = await parts.jobs.start(who, asset_id, "new", order())
        await parts.start("after")
        await parts.side.settle()
        job = await parts.job(odd.id)
        assert (job.state, job.error) == ("failed", "unsupported")
        assert commands(link) == ["after"]

    asyncio.run(run())


def test_same_idempotency_key_gives_the_same_job_and_another_body_is_refused(parts: Parts) -> None:
    async def run() -> None:
        first = await parts.start("a", idempotency_key="k")
        assert (await parts.start("a", idempotency_key="k")).id == first.id
        with pytest.raises(ConflictError) as caught:
            await parts.start("b", idempotency_key="k")
        assert caught.value.code == "idempotency_mismatch"

    asyncio.run(run())


def test_queued_job_is_cancelled_at_once_and_never_sent(parts: Parts) -> None:
    async def run() -> None:
        job = await parts.start()
        assert (await parts.jobs.cancel(parts.who, job.id)).state == "cancelled"
        link = parts.link()
        await parts.reconciliation.linked(link)
        await parts.side.settle()
        assert link.sent == []
        with pytest.raises(ConflictError) as caught:
            await parts.jobs.cancel(parts.who, job.id)
        assert caught.value.code == "already_ended"

    asyncio.run(run())


def test_sent_job_of_a_kind_without_a_cancel_message_is_told_so(parts: Parts) -> None:
    async def run() -> None:
        parts.link()
        job = await parts.start()
        await parts.side.settle()
        with pytest.raises(ConflictError) as caught:
            await parts.jobs.cancel(parts.who, job.id)
        assert caught.value.code == "not_cancellable"
        assert await parts.state(job) == "sent"

    asyncio.run(run())


def test_cancel_is_asked_again_when_the_machine_is_back(parts: Parts) -> None:
    asked: list[tuple[str, object]] = []

    def ask(job: Job, link: Link) -> None:
        asked.append((job.id, link))

    kind = JobKind(
        name="long",
        action="admin.run",
        messages=message_of,
        cancel=ask,
        listed_as=lambda job: job.id,
    )
    parts.jobs.register(kind)

    async def run() -> None:
        first = parts.link()
        job = await parts.jobs.start(parts.who, parts.asset.id, "long", order())
        await parts.side.settle()
        parts.unlink()
        second = None
        assert (await parts.jobs.cancel(parts.who, job.id)).cancel_ms is not None
        assert asked == []
        second = parts.link(job.id)
        await parts.reconciliation.linked(second)
        assert asked == [(job.id, second)]
        assert first is not second

    asyncio.run(run())


def test_expired_overdue_and_revoked_jobs_end_by_themselves(parts: Parts) -> None:
    async def run() -> None:
        stale = await parts.start("stale")
        await parts.change(stale, expires_ms=now_ms() - 1)
        parts.link()
        stuck = await parts.start("stuck")
        await parts.side.settle()
        assert (await parts.state(stuck), await parts.state(stale)) == ("sent", "queued")
        await parts.change(stuck, deadline_ms=now_ms() - 1)
        await parts.jobs.sweep()
        ended = [await parts.job(one.id) for one in (stale, stuck)]
        assert [(job.state, job.error) for job in ended] == [
            ("expired", "expired"),
            ("unknown", "deadline"),
        ]
        assert (await parts.finish(stuck)) is not None, "the machine's own word settles it"

    asyncio.run(run())


@pytest.mark.parametrize("who", ["user", "token", "agent"])
def test_queued_work_of_whoever_is_revoked_is_cancelled(parts: Parts, who: str) -> None:
    async def run() -> None:
        job = await parts.start()
        await parts.change(job, login_id="l1")

        def revoke(session: Session) -> None:
            login = Login(
                id="l1", tenant_id=job.tenant_id, user_id=parts.who.id, kind="token",
                role="operator", digest="d", created_ms=0,
            )  # fmt: skip
            session.add(login)
            if who == "user":
                session.execute(update(User).values(disabled_ms=1))
            elif who == "token":
                login.revoked_ms = 1
            else:
                session.merge(parts.agent).state = "revoked"

        await parts.jobs.sweep()
        assert await parts.state(job) == "queued"
        await parts.database.write(None, revoke)
        await parts.jobs.sweep()
        ended = await parts.job(job.id)
        assert (ended.state, ended.error) == ("cancelled", "revoked")

    asyncio.run(run())


def test_machine_that_lost_a_job_gives_an_unknown_outcome_and_nothing_runs_again(
    parts: Parts,
) -> None:
    async def run() -> None:
        parts.link()
        kept, lost = await parts.start("kept"), await parts.start("lost")
        await parts.side.settle()
        parts.unlink()
        link = parts.link(kept.id)
        await parts.reconciliation.linked(link)
        await parts.side.settle()
        assert await parts.state(kept) == "running"
        job = await parts.job(lost.id)
        assert (job.state, job.error) == ("unknown", "unknown_outcome")
        assert link.sent == []

    asyncio.run(run())


def test_result_from_the_outbox_comes_before_the_verdict(parts: Parts) -> None:
    async def run() -> None:
        parts.link()
        job = await parts.start()
        await parts.side.settle()
        parts.unlink()
        link = parts.link()
        comparing = asyncio.ensure_future(parts.reconciliation.linked(link))
        parts.reconciliation.heard(link)
        await parts.finish(job)
        await comparing
        assert parts.console.states(job.id) == ["queued", "sent", "succeeded"]

    asyncio.run(run())


def test_job_sent_over_the_new_link_while_it_is_compared_is_not_lost(parts: Parts) -> None:
    async def run() -> None:
        parts.link()
        await parts.start("before")
        await parts.side.settle()
        link = parts.link()
        comparing = asyncio.ensure_future(parts.reconciliation.linked(link))
        job = await parts.start("now")
        await comparing
        await parts.side.settle()
        assert await parts.state(job) == "sent"
        assert commands(link) == ["now"]

    asyncio.run(run())


def test_foreign_machine_that_lists_nothing_keeps_its_jobs_until_the_deadline(
    parts: Parts,
) -> None:
    async def run() -> None:
        parts.link(features=None)
        job = await parts.start()
        await parts.side.settle()
        await parts.reconciliation.linked(parts.link(features=None))
        assert await parts.state(job) == "sent"

    asyncio.run(run())


def test_restored_database_runs_nothing_again(parts: Parts) -> None:
    async def run() -> None:
        queued, running = await parts.start("queued"), await parts.start("running")
        assert await parts.database.write(None, sweeps.after_restore) == 2
        link = parts.link(running.id)
        await parts.reconciliation.linked(link)
        await parts.side.settle()
        assert link.sent == []
        assert await parts.state(queued) == "unknown"
        assert (await parts.finish(running)) is not None

    asyncio.run(run())


def test_machine_that_runs_a_job_which_the_hub_believes_queued_is_not_sent_it(parts: Parts) -> None:
    """A database that was copied back by hand: nobody told the queue."""

    async def run() -> None:
        job = await parts.start()
        link = parts.link(job.id)
        await parts.reconciliation.linked(link)
        await parts.side.settle()
        assert (await parts.state(job), link.sent) == ("running", [])

    asyncio.run(run())


def test_machine_with_a_long_queue_holds_no_other_up(parts: Parts) -> None:
    async def run() -> None:
        other, agent = machine(parts.database, parts.who.tenant_id, "m2")
        for n in range(50):
            await parts.start(f"c{n}")
        job = await parts.jobs.start(parts.who, other.id, "admin", order("mine"))
        parts.link()
        parts.links.by_asset[other.id] = HeldLink(agent.id, other.id, parts.who.tenant_id)
        await parts.jobs.sweep()
        await parts.side.settle()
        assert await parts.state(job) == "sent"

    asyncio.run(run())


def test_jobs_of_another_tenant_do_not_exist(parts: Parts) -> None:
    async def run() -> None:
        stranger = operator(parts.database, "yves", "other")
        job = await parts.start()
        with pytest.raises(NotFoundError):
            await parts.jobs.cancel(stranger, job.id)
        with pytest.raises(NotFoundError):
            await parts.jobs.start(stranger, parts.asset.id, "admin", order())
        assert await parts.state(job) == "queued"

    asyncio.run(run())


def test_job_that_is_handed_out_meanwhile_is_not_cancelled_as_a_queued_one(
    database: Database,
) -> None:
    """It runs: whoever cancels it asks its agent, or hears that nobody can."""
    parts = Parts(database)
    job = asyncio.run(parts.start())
    claimed, is_done = threading.Event(), threading.Event()

    def hand_out(session: Session) -> None:
        service.claim(session, parts.asset.id, parts.agent.id, WINDOW)
        claimed.set()
        is_done.wait(0.3)  # the other unit has begun; with a single writer it waits for this one

    def cancel(session: Session) -> Job:
        return service.request_cancel(session, parts.who, job.id, lambda _: True)

    async def both() -> None:
        first = asyncio.ensure_future(database.write(None, hand_out))
        await asyncio.to_thread(claimed.wait, 30)
        await database.write(None, cancel)
        is_done.set()
        await first

    asyncio.run(both())
    found = asyncio.run(parts.job(job.id))
    assert (found.state, found.cancel_ms is not None) == ("sent", True)
