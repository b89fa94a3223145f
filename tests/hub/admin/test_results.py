"""Whose result it is: by id, by token, by command; never another machine's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.orm import Session

from hub.admin import results
from hub.admin.requests import AdminIn
from hub.assembly import Hub
from hub.authorize import Principal
from hub.db.database import Database
from hub.errors import DuplicateResultError, ForeignResultError
from hub.jobs import service
from hub.jobs.models import Job
from hub.jobs.states import State
from hub.jobs.views import JobOut
from tests.doubles.job_parts import HeldLink, machine, operator
from wire.admin import AdminResult, Outcome, Summary
from wire.features import FEATURES

KINDS = frozenset({"admin"})


class Parts:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.who: Principal = operator(hub.database, "otto")
        self.machines = [machine(hub.database, self.who.tenant_id, name) for name in ("m1", "m2")]

    def link(self, number: int, features: frozenset[str] | None = frozenset(FEATURES)) -> Any:
        asset, agent = self.machines[number]
        link = HeldLink(agent.id, asset.id, self.who.tenant_id, features)
        link.client_id = agent.client_id  # type: ignore[attr-defined]
        return link

    def sent(self, number: int, command: str, **more: Any) -> Job:
        asset, agent = self.machines[number]

        def unit(session: Session) -> Job:
            asked = AdminIn(command=command, **more)
            self.hub.admin.submission.one(session, self.who, asset.id, asked, None)
            return service.claim(session, asset.id, agent.id, 8)[-1]

        return self.write(unit)

    def write(self, unit: Any) -> Any:
        return self.hub.database.write_now(self.who.tenant_id, unit)

    def find(self, link: Any, message: AdminResult) -> Job:
        return self.write(lambda session: results.find_job(session, link, message, KINDS))

    def take(self, link: Any, message: AdminResult) -> Job:
        def unit(session: Session) -> Job:
            job = results.find_job(session, link, message, KINDS)
            return results.take(session, link, job, message)

        return self.write(unit)


@pytest.fixture
def parts(hub: Hub) -> Parts:
    return Parts(hub)


def result(command: str = "x", code: int = 0, **more: Any) -> AdminResult:
    error = more.pop("error", None)
    outcome = Outcome(
        stdout="out", stderr="", error=error, summary=Summary(code=code, duration_ms=1)
    )
    return AdminResult(command=command, result=outcome, **more)


def test_result_of_another_machines_job_is_foreign_and_changes_nothing(parts: Parts) -> None:
    job = parts.sent(0, "uptime")
    for message, features in (
        (result("uptime", job_id=job.id), frozenset(FEATURES)),
        (result("uptime", token=job.id), None),
    ):
        with pytest.raises(ForeignResultError):
            parts.take(parts.link(1, features), message)
    with pytest.raises(DuplicateResultError):
        parts.take(parts.link(1, None), result("uptime"))
    assert parts.write(lambda s: service.get(s, job.id)).state == State.SENT


def test_result_of_an_unknown_or_ended_job_is_a_duplicate(parts: Parts) -> None:
    with pytest.raises(DuplicateResultError):
        parts.take(parts.link(0), result(job_id="never"))
    job = parts.sent(0, "uptime")
    parts.take(parts.link(0), result(job_id=job.id))
    with pytest.raises(DuplicateResultError):
        parts.take(parts.link(0), result(job_id=job.id, code=7))
    kept = parts.write(lambda s: service.get(s, job.id))
    assert (kept.state, kept.result["code"]) == (State.SUCCEEDED, 0)


def test_foreign_agents_results_are_told_apart_by_token_then_by_command_in_order(
    parts: Parts,
) -> None:
    first, second = parts.sent(0, "same"), parts.sent(0, "same")
    link = parts.link(0, None)
    assert parts.find(link, result("same", token=second.id)).id == second.id
    assert parts.find(link, result("same", token="a secret of the machine")).id == first.id
    assert parts.take(link, result("same")).id == first.id
    assert parts.take(link, result("same")).id == second.id
    with pytest.raises(DuplicateResultError):
        parts.take(link, result("same"))


@pytest.mark.parametrize(
    ("code", "error", "state", "why"),
    [
        (0, None, State.SUCCEEDED, None),
        (7, None, State.FAILED, None),
        (124, None, State.FAILED, "timeout"),
        (126, None, State.FAILED, "policy_denied"),
        (126, "bad_command", State.FAILED, "bad_command"),
        (125, "unknown_outcome", State.UNKNOWN, "unknown_outcome"),
        (125, "restarted", State.FAILED, "restarted"),
        (1, "odd\0\n" + "e" * 300, State.FAILED, "odd" + "e" * 61),
    ],
)
def test_code_and_error_make_the_state(
    parts: Parts, code: int, error: str | None, state: State, why: str | None
) -> None:
    job = parts.sent(0, "x")
    ended = parts.take(parts.link(0), result(code=code, error=error, job_id=job.id))
    assert (ended.state, ended.error) == (state, why)


def test_command_token_is_sent_and_never_shown(parts: Parts) -> None:
    job = parts.sent(0, "x", token="s3cret-of-the-machine")
    assert "s3cret" not in repr(job.request)
    message = parts.hub.jobs.kind("admin").messages(job, None)[0]
    assert message.token == "s3cret-of-the-machine"
    assert "sealed" not in JobOut.of(job).model_dump_json()


def test_two_processes_that_hand_out_at_once_hand_out_each_job_once(parts: Parts) -> None:
    asset, agent = parts.machines[0]
    asked = AdminIn(command="x")

    def submit(session: Session) -> None:
        for _ in range(40):
            parts.hub.admin.submission.one(session, parts.who, asset.id, asked, None)

    parts.write(submit)
    other = Database(parts.hub.database.url)
    try:

        async def claim_all() -> list[list[Job]]:
            return await asyncio.gather(
                *(
                    database.write(parts.who.tenant_id, service.claim, asset.id, agent.id, 100)
                    for database in (parts.hub.database, other) * 4
                )
            )

        claimed = [job.id for batch in asyncio.run(claim_all()) for job in batch]
    finally:
        other.close()
    assert len(claimed) == len(set(claimed)) == 40
