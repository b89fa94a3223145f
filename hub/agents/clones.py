"""Two machines with one identity, both alive: seen by the boots that take turns.

Rules: a new boot is a reboot and replaces the link before it. Only A, then B, then A again while
B's link still answers a ping is a conflict: then both are refused `identity_conflict`, nothing is
sent to either, and that lasts until a single boot has asked for CALM_S, or the agent is enrolled
again. A foreign agent has no boot id and cannot be told from itself: its newer link wins.

Source: contract 1.7; fault cases A.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import update
from sqlalchemy.orm import Session

from hub.agents.admission import ACTION, principal, refusal
from hub.agents.batches import Batches
from hub.agents.identities import Identity
from hub.agents.links import Links
from hub.agents.models import Agent
from hub.agents.pings import Pings
from hub.agents.presence import Change, Presence
from hub.audit import service as audit
from hub.clock import now_ms
from hub.db.database import Database

CONFLICT = "identity_conflict"
ANSWER_S = 3.0
CALM_S = 600.0
RETRY_MS = 60_000
GATHER_S = 0.01


class Boot(NamedTuple):
    """An agent's new boot, and the one before it."""

    agent_id: str
    boot_id: str
    before: str | None


class Clones:
    """See the module."""

    def __init__(
        self,
        database: Database,
        links: Links,
        pings: Pings,
        presence: Presence,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._links = links
        self._pings = pings
        self._presence = presence
        self._clock = clock
        self._asked: dict[str, dict[str, float]] = {}
        self._boots = Batches[Boot, None](self._note, GATHER_S)

    async def check(self, identity: Identity, boot_id: str | None, address: str) -> None:
        """Let a boot of an agent in, or refuse it.

        Raises:
            RefusalError: `identity_conflict`.
        """
        if boot_id is None:
            return
        if identity.conflict_ms is not None:
            if not self._is_calm(identity.agent_id, boot_id):
                raise refusal(CONFLICT, RETRY_MS)
            await self._database.write(identity.tenant_id, clear, identity.agent_id)
        elif boot_id == identity.boot_before and await self._is_alive(identity, boot_id):
            await self._conflict(identity, boot_id, address)
            raise refusal(CONFLICT, RETRY_MS)
        if boot_id != identity.boot_id:
            await self._boots.ask(Boot(identity.agent_id, boot_id, identity.boot_id))

    def forget(self, agent_id: str) -> None:
        """A person has decided: whoever comes next is the machine."""
        self._asked.pop(agent_id, None)

    async def _note(self, boots: list[Boot]) -> list[None]:
        await self._database.write(None, booted, boots)
        return [None] * len(boots)

    async def _is_alive(self, identity: Identity, boot_id: str) -> bool:
        """Tell whether the link of another boot answers."""
        link = self._links.of_agent(identity.agent_id)
        if link is None or link.boot_id in (None, boot_id):
            return False
        return await self._pings.answers(link, ANSWER_S)

    async def _conflict(self, identity: Identity, boot_id: str, address: str) -> None:
        other = self._links.of_agent(identity.agent_id)
        now = self._clock()
        self._asked[identity.agent_id] = {boot_id: now}
        if other is not None and other.boot_id is not None:
            self._asked[identity.agent_id][other.boot_id] = now
        await self._database.write(identity.tenant_id, conflict, identity, address)
        if other is not None:
            await other.peer.close(CONFLICT)
        self._presence.set(
            Change(identity.tenant_id, identity.asset_id, "conflict", now_ms(), CONFLICT, address)
        )

    def _is_calm(self, agent_id: str, boot_id: str) -> bool:
        """Note that a boot asks; tell whether it has been the only one for long."""
        now = self._clock()
        asked = self._asked.setdefault(agent_id, {"": now})
        asked[boot_id] = now
        for other, at in list(asked.items()):
            if now - at >= CALM_S:
                del asked[other]
        if set(asked) != {boot_id}:
            return False
        del self._asked[agent_id]
        return True


def booted(session: Session, boots: list[Boot]) -> None:
    """Note agents' new boots, each agent's last one."""
    newest = {one.agent_id: one for one in boots}
    session.execute(
        update(Agent),
        [
            {"id": one.agent_id, "boot_id": one.boot_id, "boot_before": one.before}
            for one in newest.values()
        ],
    )


def clear(session: Session, agent_id: str) -> None:
    """A conflict is over."""
    session.execute(update(Agent).where(Agent.id == agent_id).values(conflict_ms=None))


def conflict(session: Session, identity: Identity, address: str) -> None:
    """Note a conflict."""
    session.execute(update(Agent).where(Agent.id == identity.agent_id).values(conflict_ms=now_ms()))
    who = principal(identity, address)
    audit.record(
        session, identity.tenant_id, who, ACTION, CONFLICT, of=("asset", identity.asset_id)
    )
