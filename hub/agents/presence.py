"""Presence: online, stale, offline or conflict, kept on the machine's row and as a history.

Rules: on the loop; changes gather and are written together, the newest of each machine last; the
console hears of them at once. What a hub that was killed left `online` is `stale` until its agent
is back, and `offline` when it is not within GRACE_S. What the heartbeat link tells of a machine
without a live link comes in by `set`.

Source: contract 1.9; product "Agents".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import structlog
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from hub.agents.links import Link, Links
from hub.agents.models import Asset, PresenceChange
from hub.clock import iso, now_ms
from hub.db.database import Database
from hub.db.rows import affected
from hub.errors import HubError
from hub.loops import keep_up
from hub.sockets.console import Console

State = Literal["online", "stale", "offline", "conflict"]
WRITE_S = 0.3
GRACE_S = 60.0
PRUNE_ROWS = 5000
TOPIC = "agents"
_log = structlog.get_logger()


class Change(NamedTuple):
    """A machine's presence from `at_ms` on."""

    tenant_id: str
    asset_id: str
    state: State
    at_ms: int
    reason: str = ""
    address: str | None = None
    version: str | None = None


Heard = Callable[[Change], None]


class Presence:
    """See the module."""

    def __init__(self, database: Database, links: Links, console: Console) -> None:
        self._database = database
        self._links = links
        self._console = console
        self._waiting: list[Change] = []
        self._heard: list[Heard] = []

    def changed(self, handler: Heard) -> None:
        """Let `handler(change)` know of every change, on the loop."""
        self._heard.append(handler)

    def on_linked(self, link: Link) -> None:
        self._tell(link, "online", version=link.version)

    def on_unlinked(self, link: Link, reason: str) -> None:
        """A link is gone, and no newer one is there."""
        if self._links.of(link.asset_id) is None:
            self._tell(link, "conflict" if reason == "identity_conflict" else "offline", reason)

    def on_silence(self, link: Link, is_silent: bool) -> None:
        self._tell(link, "stale" if is_silent else "online", "silent" if is_silent else "")

    def set(self, change: Change) -> None:
        """Tell and write one change."""
        self._waiting.append(change)
        payload = {
            "asset_id": change.asset_id,
            "presence": change.state,
            "at": iso(change.at_ms),
            "reason": change.reason,
        }
        for topic in (TOPIC, f"agent:{change.asset_id}"):
            self._console.publish(change.tenant_id, topic, "presence", payload)
        for handler in self._heard:
            handler(change)

    async def write_forever(self) -> None:
        """Write what has gathered, again and again."""
        while True:
            await asyncio.sleep(WRITE_S)
            await self.write()

    async def write(self) -> None:
        """Write what has gathered."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            await self._database.write(None, store, waiting)
        except HubError as error:
            _log.warning("presence could not be written", code=error.code, count=len(waiting))
            self._waiting = [*waiting, *self._waiting]

    async def settle(self) -> None:
        """After a start: what was online is stale, and offline if it does not come back."""
        await self._database.write(None, mark_stale)
        await asyncio.sleep(GRACE_S)
        await keep_up(self._give_up)

    async def _give_up(self) -> None:
        """Who has not come back is offline."""
        for tenant_id, asset_id in await self._database.read(None, stale):
            if self._links.of(asset_id) is None:
                self.set(Change(tenant_id, asset_id, "offline", now_ms(), "hub_restarted"))

    def _tell(self, link: Link, state: State, reason: str = "", version: str | None = None) -> None:
        self.set(
            Change(
                link.tenant_id, link.asset_id, state, now_ms(), reason[:64], link.address, version
            )
        )


def store(session: Session, changes: list[Change]) -> None:
    """Write changes, each machine's newest to its row."""
    session.execute(
        insert(PresenceChange),
        [
            {
                "tenant_id": one.tenant_id,
                "asset_id": one.asset_id,
                "at_ms": one.at_ms,
                "state": one.state,
                "reason": one.reason,
                "address": one.address,
            }
            for one in changes
        ],
    )
    newest = sorted({one.asset_id: one for one in changes}.items())
    for with_version in (True, False):
        rows = [_row(one) for _, one in newest if bool(one.version) is with_version]
        if rows:
            session.execute(update(Asset), rows)


def mark_stale(session: Session) -> int:
    """Say of every machine that was online that nobody knows."""
    return affected(
        session, update(Asset).where(Asset.presence == "online").values(presence="stale")
    )


def stale(session: Session) -> list[tuple[str, str]]:
    """Return tenant and id of every machine of which nobody knows."""
    rows = session.execute(select(Asset.tenant_id, Asset.id).where(Asset.presence == "stale"))
    return [(tenant_id, asset_id) for tenant_id, asset_id in rows]


def prune(session: Session, before_ms: int) -> int:
    """Drop what is too old, a bounded number of rows; return how many."""
    old = select(PresenceChange.seq).where(PresenceChange.at_ms < before_ms).limit(PRUNE_ROWS)
    return affected(session, delete(PresenceChange).where(PresenceChange.seq.in_(old)))


def _row(change: Change) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": change.asset_id,
        "presence": change.state,
        "presence_since_ms": change.at_ms,
        "seen_ms": change.at_ms,
    }
    if change.version:
        row["agent_version"] = change.version[:64]
    return row
