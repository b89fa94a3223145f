"""What has ended leaves after its time; what is open, or is needed still, stays."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub import retention
from hub.alerts.models import Alert
from hub.assembly import Hub
from hub.authorize import Role
from hub.clock import now_ms
from hub.heartbeat.models import Artifact, Command
from hub.ids import new_id
from hub.jobs import service
from hub.jobs.models import Job
from hub.jobs.states import State
from hub.operators import credentials
from hub.operators.models import Login, Tenant
from tests.doubles.job_parts import KIND, machine, operator, order
from tests.doubles.loop import run
from tests.hub.conftest import People


def count(hub: Hub, table: type) -> int:
    query = select(func.count()).select_from(table)
    return hub.database.read_now(None, lambda session: session.scalars(query).one())


def command(tenant_id: str, asset_id: str, state: str, finished_ms: int | None) -> Command:
    return Command(
        id=new_id(), tenant_id=tenant_id, asset_id=asset_id, command_type="collect_inventory",
        params={}, state=state, when_offline="queue", idempotency_key=new_id(), body_digest="",
        user_id="u", user_name="u", requested_ms=1, expires_ms=1, offers=0, skipped=False,
        finished_ms=finished_ms,
    )  # fmt: skip


def alert(tenant_id: str, resolved_ms: int | None) -> Alert:
    return Alert(
        id=new_id(), tenant_id=tenant_id, asset_name="m1", kind="offline", summary="", raised_ms=1,
        seen_ms=1, resolved_ms=resolved_ms, tries=0,
    )  # fmt: skip


def test_jobs_commands_and_alerts_leave_once_they_have_ended_long_ago(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.jobs.sweeps.AT_ONCE", 2)
    who = operator(hub.database, "otto")
    asset, _ = machine(hub.database, who.tenant_id, "m1")

    def fill(session: Session) -> None:
        jobs = [
            service.submit(session, who, asset, KIND, order(), is_online=True)[0] for _ in range(6)
        ]
        for job in jobs[:5]:
            service.finish(session, job.id, State.FAILED)
        kept = command(who.tenant_id, asset.id, "failed", 1)
        for row in (
            kept,
            command(who.tenant_id, asset.id, "completed", 1),
            command(who.tenant_id, asset.id, "running", None),
            alert(who.tenant_id, 1),
            alert(who.tenant_id, None),
        ):
            session.add(row)
        session.flush()
        session.add(
            Artifact(
                id=new_id(),
                tenant_id=who.tenant_id,
                asset_id=asset.id,
                command_id=kept.id,
                name="n",
                sha256="",
                size_bytes=1,
                created_ms=1,
            )
        )

    hub.database.write_now(None, fill)
    run(retention.forget(hub.database, 1))
    assert [count(hub, table) for table in (Job, Command, Alert)] == [6, 3, 2]
    run(retention.forget(hub.database, now_ms() + 60_000))
    assert [count(hub, table) for table in (Job, Command, Alert)] == [1, 2, 1]


def test_logins_leave_that_are_good_no_more(hub: Hub, people: People, acme: Tenant) -> None:
    user = people.user(acme, "ann", Role.OPERATOR)

    def fill(session: Session) -> None:
        for _ in range(3):
            login, _ = credentials.issue(session, user, "session")
        credentials.revoke(session, login.id)
        credentials.issue(session, user, "token", ttl_ms=None)
        token, _ = credentials.issue(session, user, "token")
        session.execute(update(Login).where(Login.id == token.id).values(expires_ms=1))

    hub.database.write_now(None, fill)
    run(retention.forget(hub.database, now_ms() + 60_000))
    assert count(hub, Login) == 3
