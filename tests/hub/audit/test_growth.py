"""Consoles are told that a tenant's log has grown, and in which families."""

from __future__ import annotations

import asyncio
from typing import Any

from hub.audit import service
from hub.audit.growth import Growth
from hub.db.database import Database


class Told:
    """A console that keeps what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any]] = []

    def publish(self, tenant_id: str, topic: str, event: str, payload: object) -> None:
        assert (topic, event) == ("audit", "audit")
        self.published.append((tenant_id, payload))


def test_what_has_grown_is_told_once_to_its_tenant(database: Database) -> None:
    told = Told()
    growth = Growth(database, told)  # type: ignore[arg-type]

    async def run() -> None:
        for tenant, action in (("t1", "users.write"), ("t1", "login"), ("t2", "shell.open")):
            await database.write(tenant, service.record, tenant, service.SYSTEM, action)
        await growth.look()
        await growth.look()
        await database.write("t1", service.record, "t1", service.SYSTEM, "agent.enrolled")
        await growth.look()

    asyncio.run(run())
    assert sorted(told.published[:2], key=str) == [
        ("t1", {"seq": 2, "families": ["login", "users"]}),
        ("t2", {"seq": 1, "families": ["shell"]}),
    ]
    assert told.published[2:] == [("t1", {"seq": 3, "families": ["agent"]})]
