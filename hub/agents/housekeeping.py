"""What the live link needs done now and then: revocations seen, old rows dropped.

Rules: a link whose agent was revoked, or whose tenant was switched off, by whatever process, is cut
within two seconds; used queries and seen events are dropped when nobody could ask for them again.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.agents import once, presence
from hub.agents.links import Links
from hub.agents.models import Agent, SeenEvent
from hub.clock import now_ms
from hub.db.database import Database
from hub.db.rows import affected
from hub.errors import HubError
from hub.operators.models import Tenant
from wire.limits import JOB_ID_KEPT_S

LOOK_S = 0.5
LOOK_BACK_MS = 30_000
SWEEP_S = 30.0
PRUNE_ROWS = 5000
DAY_MS = 86_400_000
REVOKED = "revoked"
_log = structlog.get_logger()


class Barred(NamedTuple):
    """Whose links must go."""

    agents: set[str]
    tenants: set[str]


class Housekeeping:
    """See the module."""

    def __init__(self, database: Database, links: Links, presence_days: int) -> None:
        self._database = database
        self._links = links
        self._presence_days = presence_days
        self._looked_ms = now_ms()

    async def look_forever(self) -> None:
        """Cut who was revoked, again and again."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except HubError as error:
                _log.warning("revocations could not be read", code=error.code)

    async def look(self) -> None:
        """Cut who was revoked since the last look that came to its end, however long ago."""
        at_ms = now_ms()
        found = await self._database.read(None, barred, min(at_ms, self._looked_ms) - LOOK_BACK_MS)
        for agent_id in found.agents:
            await self._links.cut(agent_id, REVOKED)
        for link in self._links.all():
            if link.tenant_id in found.tenants:
                await link.peer.close("tenant_disabled")
        self._looked_ms = at_ms

    async def sweep_forever(self) -> None:
        """Drop old rows, again and again."""
        while True:
            try:
                await self.sweep(now_ms())
            except HubError as error:
                _log.warning("old rows could not be dropped", code=error.code)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self, at_ms: int) -> None:
        """Drop old rows until there is none."""
        write = self._database.write
        await write(None, once.forget, at_ms)
        while await write(None, forget_events, at_ms - JOB_ID_KEPT_S * 1000):
            await asyncio.sleep(0)
        while await write(None, presence.prune, at_ms - self._presence_days * DAY_MS):
            await asyncio.sleep(0)


def barred(session: Session, since_ms: int) -> Barred:
    """Return who was revoked lately, and every tenant that is off."""
    agents = session.scalars(select(Agent.id).where(Agent.revoked_ms >= since_ms))
    tenants = session.scalars(select(Tenant.id).where(Tenant.disabled_ms.is_not(None)))
    return Barred(set(agents), set(tenants))


def forget_events(session: Session, before_ms: int) -> int:
    """Drop seen events, a bounded number of rows; return how many."""
    old = select(SeenEvent.seq).where(SeenEvent.at_ms < before_ms).limit(PRUNE_ROWS)
    return affected(session, delete(SeenEvent).where(SeenEvent.seq.in_(old)))
