"""Shells on the `/console` namespace: what consoles ask, and who may.

Rules: opening and attaching go through the database and the audit log; a keystroke goes to the
live session, which knows its writer, and to the link: no database, no waiting. A session is
written in by whoever opened it, and by admins; everybody of the tenant may observe.
Replies and events: docs/reference/console-events.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from hub.errors import ConflictError
from hub.shell import service
from hub.shell.live import Live
from hub.shell.states import HubReason
from wire.fields import Cells, Count, Id
from wire.limits import DEFAULT_COLS, DEFAULT_ROWS

if TYPE_CHECKING:
    from hub.assembly import Hub
    from hub.sockets.console import ConsoleClient

Purpose = Annotated[str, Meta(max_length=255)]
Reply = dict[str, Any] | None


class Open(msgspec.Struct, kw_only=True):
    """`shell_open`: a new session on an agent; the sender is its writer."""

    asset_id: Id
    cols: Cells = DEFAULT_COLS
    rows: Cells = DEFAULT_ROWS
    purpose: Purpose = ""


class Attach(msgspec.Struct, kw_only=True):
    """`shell_attach`, `shell_observe`: show a session, from `offset` on.

    `take_over`: become its writer although somebody else is.
    """

    session: Id
    offset: Count | None = None
    take_over: bool = False


class Input(msgspec.Struct, kw_only=True):
    """`shell_input`: keystrokes."""

    session: Id
    data: str


class Resize(msgspec.Struct, kw_only=True):
    """`shell_resize`: the writer's terminal has another size."""

    session: Id
    cols: Cells
    rows: Cells


class Shown(msgspec.Struct, kw_only=True):
    """`shell_ack`: everything below `offset` has been shown."""

    session: Id
    offset: Count


class Named(msgspec.Struct, kw_only=True):
    """`shell_close`, `shell_detach`."""

    session: Id


class ShellEvents:
    """See the module."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._sessions = hub.shells
        on = hub.console.on
        on("shell_open", "shell.open", Open, self._open)
        on("shell_attach", "shell.open", Attach, self._attach)
        on("shell_observe", "shell.observe", Attach, self._observe)
        on("shell_input", "shell.open", Input, self._input)
        on("shell_resize", "shell.open", Resize, self._resize)
        on("shell_ack", "shell.observe", Shown, self._shown)
        on("shell_detach", "shell.observe", Named, self._detach)
        on("shell_close", "shell.open", Named, self._close)
        hub.console.closed(self._sessions.leave)

    async def _open(self, client: ConsoleClient, ask: Open) -> Reply:
        row = await self._sessions.open(
            client.principal, ask.asset_id, ask.cols, ask.rows, ask.purpose, client
        )
        if not self._hub.console.has(client):
            self._sessions.leave(client)
        return {"session": row.id, "offset": 0, "recorded": True}

    async def _attach(self, client: ConsoleClient, ask: Attach) -> Reply:
        live = self._sessions.find(client.principal, ask.session)
        service.check_owner(client.principal, live.facts.user_id)
        _check_free(live, client, ask)
        await self._note(client, live, "shell.attach")
        _check_free(live, client, ask)
        return _shown(live, live.attach(client, ask.offset))

    async def _observe(self, client: ConsoleClient, ask: Attach) -> Reply:
        live = self._sessions.find(client.principal, ask.session)
        await self._note(client, live, "shell.observe")
        return _shown(live, live.observe(client, ask.offset))

    async def _input(self, client: ConsoleClient, ask: Input) -> Reply:
        self._sessions.at(ask.session).input(client, ask.data)
        return None

    async def _resize(self, client: ConsoleClient, ask: Resize) -> Reply:
        self._sessions.at(ask.session).resize(client, ask.cols, ask.rows)
        return None

    async def _shown(self, client: ConsoleClient, ask: Shown) -> Reply:
        live = self._sessions.at(ask.session)
        if live.audience.of(client) is None:
            raise _not_attached()
        live.consumed(client, ask.offset)
        return None

    async def _detach(self, client: ConsoleClient, ask: Named) -> Reply:
        if not self._sessions.at(ask.session).detach(client):
            raise _not_attached()
        return {"was_attached": True}

    async def _close(self, client: ConsoleClient, ask: Named) -> Reply:
        live = self._sessions.find(client.principal, ask.session)
        service.check_owner(client.principal, live.facts.user_id)
        await self._sessions.close(ask.session, client.principal, HubReason.CLOSED)
        return None

    async def _note(self, client: ConsoleClient, live: Live, action: str) -> None:
        """Audit, then see whether the client is still there."""
        who = client.principal
        await self._hub.database.write(who.scope, service.note, live.facts.id, who, action)
        if not self._hub.console.has(client):
            raise ConflictError("the console is gone", code="not_attached")


def _not_attached() -> ConflictError:
    """Answer alike for a session that there is and for one that there is not."""
    return ConflictError("attach to the session first", code="not_attached")


def _check_free(live: Live, client: ConsoleClient, ask: Attach) -> None:
    is_free = live.audience.writer is None or live.audience.writes(client)
    if not ask.take_over and not is_free:
        raise ConflictError("somebody writes in this session already", code="has_writer")


def _shown(live: Live, start: int) -> dict[str, Any]:
    return {
        "session": live.facts.id,
        "offset": start,
        "cols": live.cols,
        "rows": live.rows,
        "up": live.link is not None,
        "has_ended": live.has_ended,
        "opened_by": live.facts.user_name,
        "recorded": live.recording.flushed_to is not None,
        "watching": len(live.audience.observers),
    }
