"""Neighbours of the queue of jobs, as doubles: links that a test holds, a console that listens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.models import Agent, Asset
from hub.authorize import Principal, Role
from hub.db.database import Database
from hub.errors import UnavailableError
from hub.jobs.kinds import JobKind
from hub.jobs.service import Order
from hub.operators import service as people
from wire.admin import AdminRun, Command
from wire.connect import JobState
from wire.events import ToAgent
from wire.features import FEATURES


@dataclass(eq=False)
class HeldLink:
    """A link that ends when the test says so."""

    agent_id: str
    asset_id: str
    tenant_id: str
    features: frozenset[str] | None = frozenset(FEATURES)
    jobs: tuple[JobState, ...] = ()
    sent: list[ToAgent] = field(default_factory=list)
    is_broken: bool = False
    client_id: str = "m1"


class HeldLinks:
    """One link for each machine."""

    def __init__(self) -> None:
        self.by_asset: dict[str, HeldLink] = {}

    def of(self, asset_id: str) -> HeldLink | None:
        return self.by_asset.get(asset_id)

    async def send(self, asset_id: str, message: ToAgent) -> None:
        link = self.by_asset.get(asset_id)
        if link is None or link.is_broken:
            raise UnavailableError("not linked", code="agent_offline")
        link.sent.append(message)


class HeldInbox:
    """Keeps who wants to know of links; the test tells them itself."""

    def linked(self, handler: Any) -> None:
        self.on_linked = handler

    def unlinked(self, handler: Any) -> None:
        self.on_unlinked = handler


class HeardConsole:
    """Keeps what was published."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str, dict[str, Any]]] = []

    def publish(self, tenant_id: str, topic: str, event: str, payload: dict[str, Any]) -> None:
        self.heard.append((tenant_id, topic, event, payload))

    def states(self, job_id: str) -> list[str]:
        topic = f"job:{job_id}"
        return [payload["state"] for _, of, _, payload in self.heard if of == topic]


class Sidelines:
    """Runs what is done on the side, and waits for all of it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def later(self, job: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks)


def message_of(job: Any, _features: frozenset[str] | None) -> list[ToAgent]:
    return [AdminRun(job_id=job.id, cmd=Command(command=job.request["command"]))]


KIND = JobKind(
    name="admin",
    action="admin.run",
    messages=message_of,
    listed_as=lambda job: job.id,
    told=lambda request: {"command": request["command"]},
)


def order(command: str = "uptime", **more: Any) -> Order:
    return Order(request={"command": command}, timeout_s=more.pop("timeout_s", 5.0), **more)


def operator(database: Database, name: str, tenant: str = "acme") -> Principal:
    """Make a user, and the tenant where there is none."""

    def unit(session: Session) -> Principal:
        found = people.find_tenant(session, tenant) or people.add_tenant(session, tenant)
        user = people.add_user(session, found.id, name, Role.OPERATOR, None)
        return Principal("user", user.id, name, found.id, Role.OPERATOR)

    return database.write_now(None, unit)


def machine(database: Database, tenant_id: str, name: str) -> tuple[Asset, Agent]:
    """Make a machine with an active agent."""

    def unit(session: Session) -> tuple[Asset, Agent]:
        asset = agents.add_asset(session, tenant_id, name)
        agent = Agent(
            id=f"agent-{name}",
            tenant_id=tenant_id,
            asset_id=asset.id,
            client_id=name,
            state="active",
            secret_sealed="",
            created_ms=0,
        )
        session.add(agent)
        return asset, agent

    return database.write_now(None, unit)
