"""What people decide about enrolled machines: approve, refuse, revoke.

Rules: a state changes by one conditional UPDATE, so that of two people one decides; revoking ends
certificates, too, and the caller cuts the live link afterwards. A machine may have two credentials,
the present one and one that waits: approving retires the first, refusing ends the second alone,
revoking ends both.
Source: issue 5 "Enrolment" (approve, pending list, revoke).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from hub.agents.models import Agent, Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import ConflictError, NotFoundError
from hub.heartbeat import arrivals, certificates
from hub.heartbeat.models import Enrolment


def pending() -> Select[Any]:
    """Select the agents that wait for somebody."""
    return (
        select(Enrolment)
        .join(Agent, Agent.id == Enrolment.agent_id)
        .where(Agent.state == "pending")
    )


def approve(session: Session, who: Principal, asset_id: str) -> tuple[str, ...]:
    """Let a waiting machine in; returns the agents whose place it took.

    Raises:
        NotFoundError: there is no such machine; ConflictError: it does not wait.
    """
    agent = _current(session, asset_id)[0]
    changed = (
        update(Agent)
        .where(Agent.id == agent.id, Agent.state == "pending")
        .values(state="active", approved_ms=now_ms())
    )
    if affected(session, changed) != 1:
        raise ConflictError("that agent does not wait for approval")
    replaced = arrivals.succeed(session, agent)
    of = ("agent", asset_id)
    audit.record(session, agent.tenant_id, who, "agents.approve", of=of, replaces=list(replaced))
    return replaced


def revoke(session: Session, who: Principal, asset_id: str) -> tuple[str, ...]:
    """Make a machine's credentials worthless; its history stays. Returns the agents it had.

    Raises:
        NotFoundError: there is no such machine, or it has no credential any more.
    """
    return _end_all(session, who, _current(session, asset_id))


def refuse(session: Session, who: Principal, asset_id: str) -> tuple[str, ...]:
    """Turn a waiting machine away; a credential that it has goes on.

    Raises:
        NotFoundError: there is no such machine, or it does not wait.
    """
    return _end_all(session, who, _current(session, asset_id, ("pending",)))


def end(session: Session, who: Principal, agent_id: str, event: str) -> None:
    """End an agent: whoever asks, its machine's history stays."""
    agent = session.get_one(Agent, agent_id)
    agent.state, agent.revoked_ms = "revoked", now_ms()
    certificates.revoke_all(session, agent_id)
    of = ("agent", agent.asset_id)
    audit.record(session, agent.tenant_id, who, event, of=of, revoked=agent.client_id)


def _end_all(session: Session, who: Principal, found: list[Agent]) -> tuple[str, ...]:
    for agent in found:
        end(session, who, agent.id, "agents.write")
    return tuple(agent.id for agent in found)


def _current(
    session: Session, asset_id: str, states: tuple[str, ...] = ("active", "pending")
) -> list[Agent]:
    """Return a machine's credentials, one that waits first."""
    found = session.scalars(
        select(Agent)
        .join(Asset, Asset.id == Agent.asset_id)
        .where(
            Asset.id == asset_id,
            Asset.deleted_ms.is_(None),
            Agent.state.in_(states),
        )
        .order_by((Agent.state == "pending").desc(), Agent.id.desc())
    ).all()
    if not found:
        raise NotFoundError("there is no such agent")
    return list(found)
