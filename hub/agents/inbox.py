"""What agents send: handed out by its class, in order for each link.

Rules: live messages go to their handlers at once, on the loop. Final events have a lane for each
link: one unit of work each, in which the event's `id` is noted, so a second delivery changes
nothing; the acknowledgement leaves after the commit, and what a handler returned is called after
that. While the database does not answer, the lane waits and nothing is acknowledged. A handler that
finds another agent's result raises `ForeignResultError`: dropped, audited.

Source: contract 1.7 `ack`; fault cases B, C.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.agents.links import Link
from hub.agents.models import SeenEvent
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import (
    DuplicateResultError,
    ForeignResultError,
    StorageFullError,
    UnavailableError,
)
from wire.events import FINAL_EVENTS, TABLE, Direction, ToServer, event_name

M = TypeVar("M", bound=msgspec.Struct)
After = Callable[[], None]
Live = Callable[[Link, M], None]
Final = Callable[[Session, Link, M], After | None]
OnLink = Callable[[Link], None]
Acknowledge = Callable[[bytes | None], None]

LANE_EVENTS = 256
RETRY_S = 1.0
FINAL_CLASSES = frozenset(TABLE[Direction.TO_SERVER][name] for name in FINAL_EVENTS)
_NOTE = text(
    f"INSERT INTO {SeenEvent.__tablename__} (agent_id, event_id, at_ms) "
    "VALUES (:agent, :event, :at) ON CONFLICT DO NOTHING"
)
_log = structlog.get_logger()


class Inbox:
    """See the module.

    Args:
        database: where final events are committed.
        later: runs a coroutine on the side.
    """

    def __init__(
        self, database: Database, later: Callable[[Coroutine[Any, Any, Any]], None]
    ) -> None:
        self._database = database
        self._later = later
        self._live: dict[type, list[Live[Any]]] = defaultdict(list)
        self._final: dict[type, list[Final[Any]]] = defaultdict(list)
        self._linked: list[OnLink] = []
        self._unlinked: list[OnLink] = []
        self._lanes: dict[Link, _Lane] = {}
        self.counts: dict[str, int] = defaultdict(int)
        """By outcome: `taken`, `duplicate`, `foreign_result`, `failed`, `ignored`."""

    # -- who listens -----------------------------------------------------------------------------

    def live(self, cls: type[M], handler: Live[M]) -> None:
        """Let `handler(link, message)` have every message of a class; it must not block."""
        self._live[cls].append(handler)

    def final(self, cls: type[M], handler: Final[M]) -> None:
        """Let `handler(session, link, message)` have every final event of a class, once each."""
        assert cls in FINAL_CLASSES, cls
        self._final[cls].append(handler)

    def linked(self, handler: OnLink) -> None:
        """Let `handler(link)` know of every link, after its `hello_ack`."""
        self._linked.append(handler)

    def unlinked(self, handler: OnLink) -> None:
        """Let `handler(link)` know when one is gone."""
        self._unlinked.append(handler)

    # -- what comes ------------------------------------------------------------------------------

    def on_linked(self, link: Link) -> None:
        for handler in self._linked:
            _guarded(handler, link)

    def on_unlinked(self, link: Link) -> None:
        for handler in self._unlinked:
            _guarded(handler, link)

    async def on_message(
        self, link: Link, message: ToServer, acknowledge: Acknowledge | None
    ) -> None:
        """Hand a message out; waits where a link sends finals faster than they are stored."""
        if type(message) in FINAL_CLASSES:
            lane = self._lanes.get(link)
            if lane is None:
                lane = self._lanes[link] = _Lane()
                self._later(self._drain(link, lane))
            await lane.put(message, acknowledge)
            return
        if acknowledge is not None:
            acknowledge(None)
        for handler in self._live[type(message)]:
            _guarded(handler, link, message)

    # -- finals ----------------------------------------------------------------------------------

    async def _drain(self, link: Link, lane: _Lane) -> None:
        """Take a link's finals, one after the other, until there is none."""
        try:
            while lane.waiting:
                message, acknowledge = lane.take()
                await self._take(link, message, acknowledge)
        finally:
            del self._lanes[link]

    async def _take(self, link: Link, message: ToServer, acknowledge: Acknowledge | None) -> None:
        try:
            outcome, after = await self._outcome(link, message)
        except Exception:  # noqa: BLE001  (it is told, and the agent keeps the event)
            self.counts["failed"] += 1
            _log.exception("a final event was not taken", name=event_name(message))
            return
        self.counts[outcome] += 1
        if acknowledge is not None:
            acknowledge(None if outcome == "taken" else msgspec.json.encode(outcome))
        for call in after:
            _guarded(call)

    async def _outcome(self, link: Link, message: ToServer) -> tuple[str, list[After]]:
        try:
            return await self._commit(link, message)
        except ForeignResultError:
            await self._audit_foreign(link, message)
            return ForeignResultError.code, []
        except DuplicateResultError:
            return DuplicateResultError.code, []

    async def _commit(self, link: Link, message: ToServer) -> tuple[str, list[After]]:
        """Commit, however long the database takes; give up when the link is gone."""
        while True:
            try:
                return await self._database.write_repeatable(
                    link.tenant_id, self._apply, link, message
                )
            except (UnavailableError, StorageFullError):
                if not link.is_up:
                    raise
                await asyncio.sleep(RETRY_S)

    def _apply(self, session: Session, link: Link, message: ToServer) -> tuple[str, list[After]]:
        event_id = getattr(message, "id", None)
        if event_id is not None and not _is_new(session, link.agent_id, event_id):
            return DuplicateResultError.code, []
        handlers = self._final[type(message)]
        if not handlers:
            return "ignored", []
        found = [handler(session, link, message) for handler in handlers]
        return "taken", [after for after in found if after is not None]

    async def _audit_foreign(self, link: Link, message: ToServer) -> None:
        who = Principal("agent", link.agent_id, link.client_id, link.tenant_id, None)
        of = ("asset", link.asset_id)
        await self._database.write(
            link.tenant_id,
            lambda session: audit.record(
                session, link.tenant_id, who, "agent.link", ForeignResultError.code, of=of,
                event=event_name(message),
            ),
        )  # fmt: skip


class _Lane:
    """A link's finals that wait for the database."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[ToServer, Acknowledge | None]] = deque()
        self._room = asyncio.Event()

    async def put(self, message: ToServer, acknowledge: Acknowledge | None) -> None:
        while len(self.waiting) >= LANE_EVENTS:
            self._room.clear()
            await self._room.wait()
        self.waiting.append((message, acknowledge))

    def take(self) -> tuple[ToServer, Acknowledge | None]:
        self._room.set()
        return self.waiting.popleft()


def _is_new(session: Session, agent_id: str, event_id: str) -> bool:
    given = {"agent": agent_id, "event": event_id, "at": now_ms()}
    return bool(cast("Any", session.connection().execute(_NOTE, given)).rowcount)


def _guarded(call: Callable[..., None], *args: object) -> None:
    """A fault of one family is not another's."""
    try:
        call(*args)
    except Exception:  # noqa: BLE001  (it is told, and the agent keeps the event)
        _log.exception("a handler failed", handler=getattr(call, "__qualname__", ""))
