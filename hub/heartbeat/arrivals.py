"""Which machine has arrived: one that the tenant knows, or a new one.

Rules: `machine_id` finds the asset again, so that tags and history stay; the agent it had is
`replaced` and its certificates are revoked. Whoever waits for approval takes nothing yet: the
asset and its agent stay as they are until somebody lets the new one in. An asset whose agent is
alive on another boot is another machine, a clone, and not taken from it: the clone becomes an asset
of its own.
Source: issue 5 "Enrolment"; product "Complaints" (cloned machines).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.models import Agent, Asset
from hub.clock import now_ms
from hub.heartbeat import certificates
from hub.heartbeat.liveness import ALIVE_MS
from hub.heartbeat.models import Enrolment, EnrolmentRules, EnrolmentToken
from hub.keyring import Keyring

if TYPE_CHECKING:
    from hub.heartbeat.enrolment import Arrival, Source


class Machine(NamedTuple):
    """Where an arrival was put."""

    asset: Asset
    agent: Agent
    auth_token: str
    replaced: tuple[str, ...]
    is_new: bool


def settle(session: Session, keyring: Keyring, source: Source, arrival: Arrival) -> Machine:
    """Find or make the asset, and make its agent."""
    asset = _known(session, source.tenant_id, arrival)
    is_new = asset is None
    if asset is None:
        asset = agents.add_asset(session, source.tenant_id, arrival.request.hostname)
        asset.machine_id = arrival.request.machine_id[:128]
    waits = source.needs_approval and not _is_approved_by_tag(session, source)
    replaced = _replace(session, asset, ("pending",) if waits else ("active", "pending"))
    if is_new or not waits:
        _describe(asset, source, arrival)
    agent, auth_token = agents.add_agent(session, keyring, asset)
    if waits:
        agent.state, agent.approved_ms = "pending", None
    session.flush()
    return Machine(asset, agent, auth_token, replaced, is_new)


def succeed(session: Session, agent: Agent) -> tuple[str, ...]:
    """Give an agent that has waited its machine; returns the agents whose place it took."""
    asset = session.get_one(Asset, agent.asset_id)
    came = session.get(Enrolment, agent.id)
    token = came and session.get(EnrolmentToken, came.source_id)
    asset.tags = sorted({*asset.tags, *(token.tags if token else ())})
    return _replace(session, asset, ("active",), but=agent.id)


def _describe(asset: Asset, source: Source, arrival: Arrival) -> None:
    asset.name = arrival.request.hostname[:255] or asset.name
    asset.tags = sorted({*asset.tags, *source.tags})
    asset.platform = arrival.request.platform[:64]
    asset.arch = (arrival.request.arch or asset.arch or "")[:32] or None
    asset.agent_version = arrival.request.agent_version[:64]


def _known(session: Session, tenant_id: str, arrival: Arrival) -> Asset | None:
    """Return the asset of that machine, save one that is alive on another boot."""
    found = session.execute(
        select(Asset, Enrolment)
        .join(Agent, Agent.asset_id == Asset.id)
        .join(Enrolment, Enrolment.agent_id == Agent.id)
        .where(
            Asset.tenant_id == tenant_id,
            Asset.machine_id == arrival.request.machine_id[:128],
            Asset.deleted_ms.is_(None),
        )
        .order_by((Agent.state == "active").desc(), Enrolment.enrolled_ms.desc())
    ).all()
    seen: set[str] = set()
    for asset, newest in found:
        if asset.id in seen:
            continue
        seen.add(asset.id)
        is_alive = newest.beat_ms is not None and now_ms() - newest.beat_ms < ALIVE_MS
        if not is_alive or newest.boot_id == arrival.request.boot_id:
            return asset
    return None


def _replace(
    session: Session, asset: Asset, states: tuple[str, ...], but: str | None = None
) -> tuple[str, ...]:
    """Let the agents that an asset has in those states make room; return their ids."""
    found = select(Agent.id).where(Agent.asset_id == asset.id, Agent.state.in_(states))
    old = [agent_id for agent_id in session.scalars(found) if agent_id != but]
    if old:
        session.execute(
            update(Agent).where(Agent.id.in_(old)).values(state="replaced", revoked_ms=now_ms())
        )
        for agent_id in old:
            certificates.revoke_all(session, agent_id)
    return tuple(old)


def _is_approved_by_tag(session: Session, source: Source) -> bool:
    rules = session.get(EnrolmentRules, source.tenant_id)
    return rules is not None and not set(rules.auto_approve_tags).isdisjoint(source.tags)
