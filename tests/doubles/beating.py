"""What tests of the heartbeat link do at a hub in this process: enrol, beat, look at tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.audit.models import AuditRow
from tests.doubles.hub_client import HubClient
from tests.doubles.simulated_agent import SimulatedAgent

ENROLL = "/api/v1/agents/enroll"
BEAT = "/api/v1/agents/heartbeat"
Tokens = Callable[..., str]
Roles = Callable[[str], dict[str, str]]


def enrolled(api: HubClient, token: str, agent: SimulatedAgent | None = None) -> SimulatedAgent:
    agent = agent or SimulatedAgent()
    reply = api.post(ENROLL, json=agent.request(token))
    assert reply.status_code == 200, reply.text
    agent.believe(reply.content)
    return agent


def beat(api: HubClient, agent: SimulatedAgent, **more: Any) -> httpx.Response:
    return api.post(BEAT, json=agent.beat(**more), headers=agent.headers)


def count(hub: Hub, table: type[Any]) -> int:
    found = hub.database.read_now(
        None, lambda session: session.scalar(select(func.count()).select_from(table))
    )
    assert found is not None
    return found


def events(hub: Hub, action: str) -> list[AuditRow]:
    query = select(AuditRow).where(AuditRow.action == action).order_by(AuditRow.seq)
    return hub.database.read_now(None, lambda session: list(session.scalars(query)))


def change(hub: Hub, statement: Any) -> None:
    def work(session: Session) -> None:
        session.execute(statement)

    hub.database.write_now(None, work)
