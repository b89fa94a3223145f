"""Whether an agent is there without a live link: by its last beat.

Source: contract part 2 (`when_offline`).
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Agent, Asset
from hub.clock import now_ms
from hub.heartbeat.models import Enrolment

ALIVE_MS = 180_000
"""Whose last beat is younger is there: three beats of a minute."""


def is_beating(session: Session, asset_id: str) -> bool:
    """Tell whether a machine's agent has beaten lately."""
    found = session.scalar(
        select(Enrolment.agent_id)
        .join(Agent, Agent.id == Enrolment.agent_id)
        .where(
            Agent.asset_id == asset_id,
            Agent.state == "active",
            Enrolment.beat_ms > now_ms() - ALIVE_MS,
        )
        .limit(1)
    )
    return found is not None


def silent(session: Session) -> list[tuple[str, str]]:
    """Return tenant and id of enrolled machines that are taken for online and do not beat.

    Whose credential was revoked or replaced does not: the new one has to beat first.
    """
    of_asset = select(Enrolment.agent_id).join(Agent, Agent.id == Enrolment.agent_id)
    of_asset = of_asset.where(Agent.asset_id == Asset.id)
    beats = of_asset.where(Agent.state == "active", Enrolment.beat_ms >= now_ms() - ALIVE_MS)
    rows = session.execute(
        select(Asset.tenant_id, Asset.id).where(
            Asset.presence == "online", of_asset.exists(), ~beats.exists()
        )
    )
    return [(tenant_id, asset_id) for tenant_id, asset_id in rows]
