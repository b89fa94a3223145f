"""All live sessions of this hub: opened, found again after a restart, ended for a reason.

Rules: a row is committed before `shell_start` goes out; what an agent says on linking decides what
lives (contract 1.7): a session that it still has goes on, one that it does not have ends
`unknown_outcome` unless its final word comes within `GRACE_S`; one that nobody wants is closed.
Disabled or demoted operators and revoked agents lose shells within 2 s, wherever that was done.
A session that has ended stays attachable for a minute, so that a console that was away hears how.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.housekeeping import REVOKED
from hub.agents.links import Link
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.errors import (
    AgentOfflineError,
    ConflictError,
    DuplicateResultError,
    ForeignResultError,
    HubError,
    NotFoundError,
)
from hub.shell import service
from hub.shell.audience import Screen
from hub.shell.live import Facts, Live, ToAgent
from hub.shell.models import ShellSession
from hub.shell.recording import Recordings
from hub.shell.states import HubReason
from wire import features
from wire.limits import MAX_SAFE_INTEGER
from wire.shell import ShellClose, ShellClosed, ShellGap, ShellOutput, ShellResume, ShellStart

if TYPE_CHECKING:
    from hub.assembly import Hub

TOPIC = "sessions"
TICK_S = 0.5
GRACE_S = 10.0
LINGER_S = 60.0
FOREIGN_CLOSE_S = 30.0
GIVE_UP_S = 3600.0
"""Longer than an agent keeps a shell whose hub is gone."""
SWEEP_S = 3600.0
SWEEP_ROWS = 100
DAY_MS = 86_400_000
_log = structlog.get_logger()


class Sessions:
    """See the module."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._live: dict[str, Live] = {}
        self.recordings = Recordings(hub.settings.state_dir, hub.settings.recording_max_bytes)
        hub.inbox.live(ShellOutput, self._on_output)
        hub.inbox.live(ShellGap, self._on_gap)
        hub.inbox.final(ShellClosed, self._on_closed)
        hub.inbox.linked(self._on_linked)
        hub.inbox.unlinked(self._on_unlinked)

    async def start(self) -> None:
        """Find what an earlier process left: live sessions, and recordings without a digest."""
        database = self._hub.database
        for row in await database.read(None, service.live_rows):
            await self._rebuild(row)
        for row in await database.read(None, service.unfinished_recordings):
            await self._measure(row)
        self._hub.forever(self._tick_for_ever)
        self._hub.forever(self._sweep_for_ever)

    async def stop(self) -> None:
        """Write down what has been recorded; the sessions live on at their agents."""
        for live in self._live.values():
            live.tick()
        await asyncio.get_running_loop().run_in_executor(None, self.recordings.close)

    # -- operators -------------------------------------------------------------------------------

    async def open(
        self,
        who: Principal,
        asset_id: str,
        cols: int,
        rows: int,
        purpose: str,
        screen: Screen | None = None,
    ) -> ShellSession:
        """Open a session; with a screen, that is its writer.

        Raises:
            NotFoundError: no such agent; AgentOfflineError: it has no link;
            StorageFullError: it could not be recorded.
        """
        database = self._hub.database
        asset = await database.read(who.scope, agents.get_asset, asset_id)
        if self._hub.links.of(asset.id) is None:
            raise AgentOfflineError("the agent is not linked")
        row = await database.write(
            who.scope, service.open_session, who, asset.id, cols, rows, purpose
        )
        title = f"{row.user_name} on {asset.name}"
        try:
            recording = await self.recordings.begin(
                row.tenant_id, row.id, cols, rows, row.opened_ms, title
            )
        except BaseException:
            await self._end(row.id, HubReason.CLOSED, "not recorded")
            raise
        live = Live(_facts(row), cols, rows, recording, self._post, time.monotonic)
        link = self._hub.links.of(asset.id)
        if link is None:
            await self._end(row.id, HubReason.AGENT_OFFLINE, None)
            raise AgentOfflineError("the agent is not linked")
        live.link = link
        self._live[row.id] = live
        if screen is not None:
            live.attach(screen, None)
        start = ShellStart(
            session=row.id, cols=cols, rows=rows, operator=who.name, reason=purpose or None
        )
        self._hub.links.send_nowait(link, start)
        self.publish(row)
        return row

    def find(self, who: Principal, session_id: str) -> Live:
        """Return a session that lives, or ended a moment ago.

        Raises:
            NotFoundError: there is none for this caller.
        """
        live = self._live.get(session_id)
        if live is None or who.scope not in (None, live.facts.tenant_id):
            raise NotFoundError("there is no such live session")
        return live

    def mine(self, session_id: str) -> Live | None:
        """Return a live session by its id alone."""
        return self._live.get(session_id)

    def at(self, session_id: str) -> Live:
        """Return a live session for a console that must be attached to it anyway.

        Raises:
            ConflictError: `not_attached`.
        """
        live = self._live.get(session_id)
        if live is None:
            raise ConflictError("attach to the session first", code="not_attached")
        return live

    async def close(self, session_id: str, who: Principal, reason: str) -> ShellSession:
        """End a session: input stops now, its processes at once or when the agent is back.

        Raises:
            NotFoundError: there is no such session.
        """
        live = self._live.get(session_id)
        if live is not None:
            live.close(reason)
        scope = None if who.kind == "system" else who.scope
        row = await self._hub.database.write(scope, service.want_end, session_id, who, reason)
        self.publish(row)
        return row

    def leave(self, screen: Screen) -> None:
        """A console is gone: whatever it showed goes on without it."""
        for live in self._live.values():
            live.detach(screen)

    def publish(self, row: ShellSession) -> None:
        """Tell every console that looks at the agent."""
        payload = {"session": row.id, "state": row.state, "reason": row.end_reason}
        for topic in (TOPIC, f"agent:{row.asset_id}"):
            self._hub.console.publish(row.tenant_id, topic, "session", payload)

    # -- agents ----------------------------------------------------------------------------------

    def _on_output(self, link: Link, message: ShellOutput) -> None:
        live = self._live.get(message.session)
        if live is not None:
            live.on_output(link, message)

    def _on_gap(self, link: Link, message: ShellGap) -> None:
        live = self._live.get(message.session)
        if live is not None:
            live.on_gap(link, message)

    def _on_closed(
        self, session: Session, link: Link, message: ShellClosed
    ) -> Callable[[], None] | None:
        row = session.get(ShellSession, message.session)
        agent = Principal("agent", link.agent_id, link.client_id, link.tenant_id, None)
        if row is None:
            raise DuplicateResultError
        if row.asset_id != link.asset_id:
            raise ForeignResultError
        if (live := self._live.get(row.id)) and live.wanted:  # written a moment later, perhaps
            row.wanted = live.wanted
        is_news = service.end(
            session, row, agent,
            reason=message.reason, code=message.code, signal=message.signal, detail=message.detail,
        )  # fmt: skip
        if not is_news:
            raise DuplicateResultError
        return lambda: self._over(row)

    def _on_linked(self, link: Link) -> None:
        theirs = {job.id for job in link.jobs if job.kind == "shell"}
        missing = []
        for live in self._of_asset(link.asset_id):
            if live.link is link:
                continue
            if link.features is None or live.facts.id in theirs:
                live.on_link(link)
            else:
                missing.append(live.facts.id)
        for session_id in theirs:
            live_here = self._live.get(session_id)
            if live_here is None or live_here.has_ended:
                self._close_unwanted(link, session_id)
        if missing:
            self._hub.later(self._give_up(missing))

    def _on_unlinked(self, link: Link) -> None:
        for live in self._of_asset(link.asset_id):
            live.on_unlink(link)

    def _close_unwanted(self, link: Link, session_id: str) -> None:
        if link.features is not None and features.RESUME in link.features:
            self._post(link, ShellResume(session=session_id, offset=MAX_SAFE_INTEGER))
        self._post(link, ShellClose(session=session_id))

    async def _give_up(self, session_ids: Iterable[str]) -> None:
        """The agent has none of these: its outbox may still hold how they ended."""
        await asyncio.sleep(GRACE_S)
        for session_id in session_ids:
            live = self._live.get(session_id)
            if live is not None and live.link is None and not live.has_ended:
                await self._end(session_id, HubReason.UNKNOWN_OUTCOME, None)

    # -- time ------------------------------------------------------------------------------------

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._tick()
            except HubError as error:  # the database is away; the sessions go on
                _log.warning("sessions could not be looked after", code=error.code)

    async def _tick(self) -> None:
        for live in list(self._live.values()):
            live.tick()
            if live.has_ended and live.over_s() > LINGER_S:
                del self._live[live.facts.id]
        for live in list(self._live.values()):
            is_running = live.wanted is None and not live.has_ended
            if is_running and (reason := self._overdue(live)):
                await self.close(live.facts.id, audit.SYSTEM, reason)
        await self._close_lost()
        await self._end_unanswered()

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep(now_ms() - self._hub.settings.recordings_days * DAY_MS)
            except HubError as error:
                _log.warning("old recordings could not be deleted", code=error.code)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self, before_ms: int) -> None:
        """Delete the recordings of sessions that ended before a time; their rows stay."""
        database = self._hub.database
        while rows := await database.read(None, service.old_recordings, before_ms, SWEEP_ROWS):
            for row in rows:
                await self.recordings.remove(row.tenant_id, row.id)
                await database.write(None, service.recording_deleted, row.id)

    def _overdue(self, live: Live) -> HubReason | None:
        found = self._hub.settings
        if live.idle_s() > found.shell_idle_s:
            return HubReason.IDLE_TIMEOUT
        if live.detached_s() > found.shell_detached_s:
            return HubReason.DETACHED_TIMEOUT
        if now_ms() - live.facts.opened_ms > found.shell_max_s * 1000:
            return HubReason.MAX_DURATION
        return None

    async def _close_lost(self) -> None:
        """Operators who are no more lose their shells; who is no agent any more tells no end."""
        living = [live for live in self._live.values() if not live.has_ended]
        if not living:
            return
        lost = await self._hub.database.read(None, service.lost, [one.facts for one in living])
        for live in living:
            if live.facts.asset_id in lost:
                await self._end(live.facts.id, HubReason.UNKNOWN_OUTCOME, REVOKED)
            elif live.facts.user_id in lost and live.wanted is None:
                await self._take_away(live)

    async def _take_away(self, live: Live) -> None:
        live.close(HubReason.OPERATOR_LOST)
        live.dismiss_writer(HubReason.OPERATOR_LOST)
        await self.close(live.facts.id, audit.SYSTEM, HubReason.OPERATOR_LOST)

    async def lose_operator(self, user_id: str) -> None:
        """Take every shell from a user at once."""
        for live in list(self._live.values()):
            if live.facts.user_id == user_id and not live.has_ended:
                await self._take_away(live)

    async def _end_unanswered(self) -> None:
        """End what nobody will answer for: a foreign agent may not, one may never come back."""
        closing = [live for live in self._live.values() if live.wanted and not live.has_ended]
        for live in closing:
            if live.link is None and live.over_s() > GIVE_UP_S:
                await self._end(live.facts.id, HubReason.UNKNOWN_OUTCOME, None)
            elif live.link and live.link.features is None and live.over_s() > FOREIGN_CLOSE_S:
                await self._end(live.facts.id, None, None)

    # -- inside ----------------------------------------------------------------------------------

    async def _rebuild(self, row: ShellSession) -> None:
        age_s = (now_ms() - row.opened_ms) / 1000
        recording = await self.recordings.go_on(row.tenant_id, row.id, age_s)
        if recording is None:
            recording = self.recordings.lost(row.tenant_id, row.id)
        live = Live(
            _facts(row), row.cols, row.rows, recording, self._post, time.monotonic,
            is_rebuilt=True, wanted=row.wanted,
        )  # fmt: skip
        self._live[row.id] = live

    async def _measure(self, row: ShellSession) -> None:
        outcome = await self.recordings.measure(row.tenant_id, row.id)
        await self._hub.database.write(None, service.recorded, row.id, outcome)

    async def _end(self, session_id: str, reason: str | None, detail: str | None) -> None:
        """End a session by the hub's own word."""

        def work(session: Session) -> ShellSession | None:
            row = service.get_session(session, session_id)
            is_news = service.end(session, row, audit.SYSTEM, reason=reason, detail=detail)
            return row if is_news else None

        row = await self._hub.database.write(None, work)
        if row is not None:
            self._over(row)

    def _over(self, row: ShellSession) -> None:
        """A row has ended: so has its session, for every console."""
        live = self._live.get(row.id)
        self.publish(row)
        if live is not None and not live.has_ended:
            live.end(closed(row))
            self._hub.later(self._finish(live, row.code))

    async def _finish(self, live: Live, code: int | None) -> None:
        outcome = await live.recording.finish(code)
        await self._hub.database.write(None, service.recorded, live.facts.id, outcome)

    def _of_asset(self, asset_id: str) -> list[Live]:
        return [
            live
            for live in self._live.values()
            if live.facts.asset_id == asset_id and not live.has_ended
        ]

    def _post(self, link: Link, message: ToAgent) -> None:
        try:
            self._hub.links.send_nowait(link, message)
        except HubError as error:  # gone meanwhile: the next link says where it stands
            _log.debug("not sent", session=message.session, code=error.code)


def closed(row: ShellSession) -> dict[str, Any]:
    """Say how a session ended, as consoles are told."""
    return {
        "session": row.id,
        "reason": row.end_reason,
        "code": row.code,
        "signal": row.signal,
        "detail": row.detail,
    }


def _facts(row: ShellSession) -> Facts:
    return Facts(row.id, row.tenant_id, row.asset_id, row.user_id, row.user_name, row.opened_ms)
