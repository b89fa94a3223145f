"""What people decide about enrolled machines: approve, refuse, revoke.

Rules: a state changes by one conditional UPDATE, so that of two people one decides; revoking ends
certificates, too, and the caller cuts the live link afterwards.
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
from hub.heartbeat import certificates
from hub.heartbeat.models import Enrolment


def pending() -> Select[Any]:
    """Select the agents that wait for somebody."""
    return (
        select(Enrolment)
        .join(Agent, Agent.id == Enrolment.agent_id)
        .where(Agent.state == "pending")
    )


def approve(session: Session, who: Principal, asset_id: str) -> Agent:
    """Let a waiting machine in.

    Raises:
        NotFoundError: there is no such machine; ConflictError: it does not wait.
    """
    agent = _current(session, asset_id)
    changed = (
        update(Agent)
        .where(Agent.id == agent.id, Agent.state == "pending")
        .values(state="active", approved_ms=now_ms())
    )
    if affected(session, changed) != 1:
        raise ConflictError("that agent does not wait for approval")
    audit.record(session, agent.tenant_id, who, "agents.approve", of=("agent", asset_id))
    return agent


def revoke(session: Session, who: Principal, asset_id: str) -> Agent:
    """Make a machine's credential worthless; its history stays.

    Raises:
        NotFoundError: there is no such machine, or it has no credential any more.
    """
    agent = _current(session, asset_id)
    end(session, who, agent.id, "agents.write")
    return agent


def end(session: Session, who: Principal, agent_id: str, event: str) -> None:
    """End an agent: whoever asks, its machine's history stays."""
    agent = session.get_one(Agent, agent_id)
    agent.state, agent.revoked_ms = "revoked", now_ms()
    certificates.revoke_all(session, agent_id)
    of = ("agent", agent.asset_id)
    audit.record(session, agent.tenant_id, who, event, of=of, revoked=agent.client_id)


def _current(session: Session, asset_id: str) -> Agent:
    agent = session.scalar(
        select(Agent)
        .join(Asset, Asset.id == Agent.asset_id)
        .where(
            Asset.id == asset_id,
            Asset.deleted_ms.is_(None),
            Agent.state.in_(("active", "pending")),
        )
        .order_by(Agent.id.desc())
    )
    if agent is None:
        raise NotFoundError("there is no such agent")
    return agent
