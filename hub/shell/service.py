"""Rows of sessions: opened, wanted over, ended, recorded, found.

Rules: everything here is one unit of work; a session ends once (`states.may_end`); each change is
in the audit log beside it, the recording's digest too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.models import Agent
from hub.audit import service as audit
from hub.authorize import ACTIONS, RANK, Principal, Role
from hub.clock import now_ms
from hub.errors import ForbiddenError, NotFoundError
from hub.ids import new_id
from hub.operators.models import Tenant, User
from hub.policy import service as policy
from hub.shell.live import Facts
from hub.shell.models import ShellSession
from hub.shell.recording import Outcome
from hub.shell.states import LIVE, State, may_end, may_follow, reason_of


def open_session(
    session: Session, who: Principal, asset_id: str, cols: int, rows: int, purpose: str
) -> ShellSession:
    """Make the row of a session that is about to be opened.

    Raises:
        NotFoundError: there is no such agent for this caller.
        ForbiddenError: `policy_denied`: the tenant's policy allows no shell there.
    """
    asset = agents.get_asset(session, asset_id)
    why = policy.refusal(session, asset, "shell")
    if why is not None:
        raise ForbiddenError(why, code="policy_denied")
    row = ShellSession(
        id=new_id(),
        tenant_id=asset.tenant_id,
        asset_id=asset.id,
        asset_name=asset.name,
        user_id=who.id,
        user_name=who.name,
        purpose=purpose,
        cols=cols,
        rows=rows,
        state=State.OPEN,
        opened_ms=now_ms(),
    )
    session.add(row)
    _record(session, row, who, "shell.open", purpose=purpose, asset=asset.id)
    return row


def get_session(session: Session, session_id: str) -> ShellSession:
    """Return a session of the unit's tenant.

    Raises:
        NotFoundError: it is unknown or another tenant's.
    """
    row = session.scalar(select(ShellSession).where(ShellSession.id == session_id))
    if row is None:
        raise NotFoundError("there is no such session")
    return row


def note(session: Session, /, session_id: str, who: Principal, action: str, **detail: Any) -> None:
    """Audit that somebody attached, observed or read a recording."""
    _record(session, get_session(session, session_id), who, action, **detail)


def want_end(session: Session, session_id: str, who: Principal, reason: str) -> ShellSession:
    """Note why the hub wants a session over; the first reason stays.

    Raises:
        NotFoundError: there is no such session.
    """
    row = get_session(session, session_id)
    if may_follow(State(row.state), State.CLOSING):
        row.state, row.wanted = State.CLOSING, reason
        _record(session, row, who, "shell.close", reason=reason)
    return row


def end(
    session: Session,
    row: ShellSession,
    who: Principal,
    *,
    reason: str | None,
    code: int | None = None,
    signal: int | str | None = None,
    detail: str | None = None,
) -> bool:
    """End a session; tell whether that was news."""
    if not may_end(State(row.state), row.end_reason):
        return False
    row.state = State.ENDED
    row.end_reason = reason_of(row.wanted, reason)[:64]
    row.code, row.signal = code, None if signal is None else str(signal)[:32]
    row.detail = None if detail is None else detail[:512]
    row.ended_ms = now_ms()
    _record(session, row, who, "session.ended", row.end_reason, code=code)
    return True


def recorded(session: Session, session_id: str, outcome: Outcome) -> None:
    """Keep what a recording came to, and its digest in the audit log."""
    row = get_session(session, session_id)
    row.recording = "failed" if outcome.has_failed else "complete"
    row.recording_bytes, row.recording_sha256 = outcome.size, outcome.sha256
    row.recording_truncated = outcome.is_truncated
    _record(
        session, row, audit.SYSTEM, "session.recorded", row.recording,
        sha256=outcome.sha256, bytes=outcome.size, truncated=outcome.is_truncated,
    )  # fmt: skip


def live_rows(session: Session) -> Sequence[ShellSession]:
    """Return every session that has not ended."""
    return session.scalars(select(ShellSession).where(ShellSession.state.in_(LIVE))).all()


def unfinished_recordings(session: Session) -> Sequence[ShellSession]:
    """Return ended sessions whose recording nobody has measured: the hub was killed."""
    return session.scalars(
        select(ShellSession).where(
            ShellSession.state == State.ENDED, ShellSession.recording == "open"
        )
    ).all()


def old_recordings(session: Session, before_ms: int, limit: int) -> Sequence[ShellSession]:
    """Return the oldest sessions that ended before a time and still have a recording."""
    return session.scalars(
        select(ShellSession)
        .where(ShellSession.state == State.ENDED, ShellSession.ended_ms < before_ms)
        .where(ShellSession.recording.in_(("complete", "failed")))
        .order_by(ShellSession.id)
        .limit(limit)
    ).all()


def recording_deleted(session: Session, session_id: str) -> None:
    """A recording has reached its age."""
    row = get_session(session, session_id)
    row.recording = "deleted"
    _record(session, row, audit.SYSTEM, "session.recording_deleted")


def lost_operators(session: Session, user_ids: Iterable[str]) -> set[str]:
    """Return which of these users may have no shell any more: disabled, demoted, gone."""
    wanted = set(user_ids)
    good = session.execute(
        select(User.id, User.role)
        .join(Tenant, Tenant.id == User.tenant_id)
        .where(User.id.in_(wanted), User.disabled_ms.is_(None), Tenant.disabled_ms.is_(None))
    )
    return wanted - {user for user, role in good if Role(role) in ACTIONS["shell.open"]}


def lost(session: Session, facts: Sequence[Facts]) -> set[str]:
    """Return the users and machines of these sessions that may have no shell any more."""
    users, machines = {one.user_id for one in facts}, {one.asset_id for one in facts}
    return lost_operators(session, users) | lost_machines(session, machines)


def lost_machines(session: Session, wanted: set[str]) -> set[str]:
    """Return which of these machines have no credential any more: revoked, forgotten."""
    good = session.scalars(
        select(Agent.asset_id).where(Agent.asset_id.in_(wanted), Agent.state == "active")
    )
    return wanted - set(good)


def query(asset_id: str | None, state: str | None) -> Select[Any]:
    """Select sessions for a list."""
    found = select(ShellSession)
    if asset_id is not None:
        found = found.where(ShellSession.asset_id == asset_id)
    if state == "live":
        found = found.where(ShellSession.state.in_(LIVE))
    elif state is not None:
        found = found.where(ShellSession.state == state)
    return found


def check_owner(who: Principal, user_id: str) -> None:
    """Let the operator who opened a session write in it and close it; admins, too.

    Raises:
        ForbiddenError: somebody else.
    """
    is_admin = who.role is not None and RANK[who.role] >= RANK[Role.TENANT_ADMIN]
    if who.id != user_id and not is_admin:
        raise ForbiddenError("the session is another operator's: you may observe it")


def _record(
    session: Session,
    row: ShellSession,
    who: Principal,
    action: str,
    outcome: str = "ok",
    **detail: Any,
) -> None:
    audit.record(
        session, row.tenant_id, who, action, outcome, of=("shell_session", row.id), **detail
    )
