"""Rows of sessions: ended once, audited, their recordings deleted with age."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.models import Agent, Asset
from hub.assembly import Hub
from hub.audit import service as audit
from hub.audit.models import AuditRow
from hub.authorize import Principal, Role
from hub.cli.audit import verify_all
from hub.errors import ForbiddenError, NotFoundError
from hub.operators.models import Tenant
from hub.shell import service
from hub.shell.models import ShellSession
from hub.shell.recording import Outcome
from tests.doubles.loop import run
from tests.hub.conftest import People

AGENT = Principal("agent", "agent-1", "box", "t", None)
SYSTEM_ADMIN = Principal("user", "root", "root", "t", Role.SYSTEM_ADMIN)


@pytest.fixture
def ann(people: People, acme: Tenant) -> Principal:
    user = people.user(acme, "ann", Role.OPERATOR)
    return Principal("user", user.id, user.name, acme.id, Role.OPERATOR)


@pytest.fixture
def asset(hub: Hub, acme: Tenant) -> Asset:
    return hub.database.write_now(acme.id, lambda s: agents.add_asset(s, acme.id, "box"))


@pytest.fixture
def row(hub: Hub, ann: Principal, asset: Asset) -> ShellSession:
    return hub.database.write_now(
        ann.scope, lambda s: service.open_session(s, ann, asset.id, 80, 24, "ticket")
    )


def ended(hub: Hub, row: ShellSession, reason: str | None, code: int | None = None) -> bool:
    def work(session: Session) -> bool:
        found = service.get_session(session, row.id)
        return service.end(session, found, AGENT, reason=reason, code=code)

    return hub.database.write_now(None, work)


def now(hub: Hub, row: ShellSession) -> ShellSession:
    return hub.database.read_now(None, lambda s: service.get_session(s, row.id))


def audited(hub: Hub, row: ShellSession) -> list[tuple[str, str]]:
    query = select(AuditRow).where(AuditRow.object_id == row.id).order_by(AuditRow.seq)
    rows = hub.database.read_now(None, lambda s: list(s.scalars(query)))
    return [(one.action, one.outcome) for one in rows]


def test_a_session_ends_once_and_each_change_is_audited(hub: Hub, row: ShellSession) -> None:
    assert ended(hub, row, "exit", 3)
    assert not ended(hub, row, "worker_died")
    found = now(hub, row)
    assert (found.state, found.end_reason, found.code) == ("ended", "exit", 3)
    assert audited(hub, row) == [("shell.open", "ok"), ("session.ended", "exit")]


def test_an_agents_word_replaces_an_unknown_outcome(hub: Hub, row: ShellSession) -> None:
    assert ended(hub, row, "unknown_outcome")
    assert ended(hub, row, "exit", 0)
    assert now(hub, row).end_reason == "exit"


def test_why_the_hub_wanted_it_over_stays(hub: Hub, ann: Principal, row: ShellSession) -> None:
    for reason in ("operator_lost", "idle_timeout"):
        hub.database.write_now(
            None,
            lambda s, why=reason: service.want_end(s, row.id, ann, why),  # type: ignore[misc]
        )
    assert now(hub, row).state == "closing"
    assert ended(hub, row, "closed")
    assert now(hub, row).end_reason == "operator_lost"
    assert ended(hub, row, "closed") is False


def test_another_tenants_session_does_not_exist(
    hub: Hub, people: People, row: ShellSession
) -> None:
    other = people.tenant("other")
    with pytest.raises(NotFoundError):
        hub.database.read_now(other.id, lambda s: service.get_session(s, row.id))
    found = hub.database.read_now(other.id, lambda s: list(s.scalars(service.query(None, None))))
    assert found == []


def test_only_the_opener_and_admins_may_write(ann: Principal) -> None:
    service.check_owner(ann, ann.id)
    service.check_owner(Principal("user", "x", "x", ann.tenant_id, Role.TENANT_ADMIN), ann.id)
    with pytest.raises(ForbiddenError):
        service.check_owner(Principal("user", "x", "x", ann.tenant_id, Role.OPERATOR), ann.id)


@pytest.mark.parametrize(
    ("change", "is_lost"),
    [("nothing", False), ("disabled", True), ("auditor", True), ("tenant_admin", False)],
)
def test_who_may_have_no_shell_any_more_is_lost(
    hub: Hub, ann: Principal, change: str, is_lost: bool
) -> None:
    from hub.operators.models import User

    def work(session: Session) -> set[str]:
        user = session.get_one(User, ann.id)
        if change == "disabled":
            user.disabled_ms = 1
        elif change != "nothing":
            user.role = change
        session.flush()
        return service.lost_operators(session, {ann.id, "nobody"})

    lost = hub.database.write_now(None, work)
    assert lost == ({ann.id, "nobody"} if is_lost else {"nobody"})


def test_a_machine_without_a_credential_is_lost(hub: Hub, asset: Asset) -> None:
    def lost(session: Session) -> set[str]:
        return service.lost_machines(session, {asset.id})

    assert hub.database.write_now(None, lost) == {asset.id}
    hub.database.write_now(None, lambda s: agents.add_agent(s, hub.keyring, asset))
    assert hub.database.write_now(None, lost) == set()
    revoked = update(Agent).where(Agent.asset_id == asset.id).values(state="revoked")
    hub.database.write_now(None, lambda s: s.execute(revoked))
    assert hub.database.write_now(None, lost) == {asset.id}


def test_old_recordings_are_deleted_and_rows_stay(hub: Hub, row: ShellSession) -> None:
    path = hub.shells.recordings.path(row.tenant_id, row.id)

    async def age() -> None:
        recording = await hub.shells.recordings.begin(row.tenant_id, row.id, 80, 24, 0, "t")
        outcome: Outcome = await recording.finish(0)
        await hub.database.write(None, service.recorded, row.id, outcome)
        await hub.shells.sweep(before_ms=1)
        assert path.exists(), "it is not old yet"
        await hub.shells.sweep(before_ms=2**53)

    ended(hub, row, "exit", 0)
    run(age())
    assert not Path(path).exists()
    found = now(hub, row)
    assert (found.recording, found.state) == ("deleted", "ended")
    assert ("session.recording_deleted", "ok") in audited(hub, row)
    hub.shells.recordings.close()


def test_an_agents_own_words_end_a_session_whatever_they_are(hub: Hub, row: ShellSession) -> None:
    """A fielded agent gives whole sentences as reasons; a hostile one anything."""
    assert ended(hub, row, "spawn /bin/bash ENOENT: no such file or directory\0" * 2)
    assert now(hub, row).state == "ended"
    assert audited(hub, row)[-1] == ("session.ended", "spawn /bin/bash ENOENT: no such "[:32])
    chains = hub.database.read_now(None, lambda session: verify_all(session, hub))
    assert all(verdict.bad_seq is None for verdict in chains.values())


def test_session_whose_agent_never_comes_back_ends(
    hub: Hub, row: ShellSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and what the agent says after all replaces it."""
    monkeypatch.setattr("hub.shell.sessions.GIVE_UP_S", -1.0)

    async def give_up() -> None:
        await hub.shells.start()
        await hub.shells.close(row.id, audit.SYSTEM, "detached_timeout")
        await hub.shells._end_unanswered()
        assert hub.shells.find(SYSTEM_ADMIN, row.id).has_ended

    run(give_up())
    assert (now(hub, row).state, now(hub, row).end_reason) == ("ended", "unknown_outcome")
    assert ended(hub, row, "exit", 0)
