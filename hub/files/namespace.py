"""A machine's directories, and its agent's log as it grows, on the console's socket.

Rules: a log is followed for one console, and no longer than that console is there; an agent whose
link is lost follows nothing: the console is told `offline`, and may ask again.
Source: contract 1.2, 1.6; docs/reference/console-events.rst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy.orm import Session

from hub.agents import service
from hub.agents.links import Link
from hub.audit import service as audit
from hub.authorize import Principal
from hub.errors import ConflictError, HubError
from hub.files.listing import list_directory
from hub.files.views import DirectoryOut
from hub.ids import new_id
from wire.fields import Id
from wire.files import DirListResponse, LogTailClosed, LogTailOutput, LogTailStart, LogTailStop
from wire.limits import LOG_TAIL_LINES_DEFAULT, LOG_TAIL_LINES_MAX

if TYPE_CHECKING:
    from hub.assembly import Hub
    from hub.sockets.console import ConsoleClient

MAX_TAILS = 16
Lines = Annotated[int, Meta(ge=1, le=LOG_TAIL_LINES_MAX)]


class ListDirectory(msgspec.Struct, kw_only=True):
    """`dir_list`."""

    asset_id: Id
    path: Annotated[str, Meta(min_length=1, max_length=4096)]


class StartTail(msgspec.Struct, kw_only=True):
    """`log_tail_start`: the last lines of the agent's log, then what follows."""

    asset_id: Id
    lines: Lines = LOG_TAIL_LINES_DEFAULT


class StopTail(msgspec.Struct, kw_only=True):
    """`log_tail_stop`."""

    session: Id


@dataclass(eq=False)
class _Tail:
    client: ConsoleClient
    asset_id: str


class FileEvents:
    """See the module."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._tails: dict[str, _Tail] = {}
        hub.console.on("dir_list", "files.read", ListDirectory, self._list)
        hub.console.on("log_tail_start", "files.read", StartTail, self._start)
        hub.console.on("log_tail_stop", "files.read", StopTail, self._stop)
        hub.console.closed(self._forget)
        hub.inbox.live(DirListResponse, hub.answers.take)
        hub.inbox.live(LogTailOutput, self._on_output)
        hub.inbox.live(LogTailClosed, self._on_closed)
        hub.inbox.unlinked(self._on_unlinked)

    async def _list(self, client: ConsoleClient, asked: ListDirectory) -> dict[str, Any]:
        found = await list_directory(self._hub, client.principal, asked.asset_id, asked.path)
        return DirectoryOut.of(found).model_dump()

    async def _start(self, client: ConsoleClient, asked: StartTail) -> dict[str, Any]:
        who = client.principal
        await self._hub.database.write(who.scope, _note_tail, asked.asset_id, who)
        if sum(tail.client is client for tail in self._tails.values()) >= MAX_TAILS:
            raise ConflictError(f"at most {MAX_TAILS} logs at once", code="busy")
        session = new_id()
        start = LogTailStart(session=session, lines=asked.lines)
        await self._hub.links.send(asked.asset_id, start)
        self._tails[session] = _Tail(client, asked.asset_id)
        if not self._hub.console.has(client):
            self._forget(client)
        return {"session": session}

    async def _stop(self, client: ConsoleClient, asked: StopTail) -> None:
        tail = self._tails.get(asked.session)
        if tail is not None and tail.client is client:
            self._end(asked.session, tail)

    def _forget(self, client: ConsoleClient) -> None:
        for session, tail in list(self._tails.items()):
            if tail.client is client:
                self._end(session, tail)

    def _end(self, session: str, tail: _Tail) -> None:
        del self._tails[session]
        link = self._hub.links.of(tail.asset_id)
        if link is not None:
            self._send_stop(link, session)

    def _send_stop(self, link: Link, session: str) -> None:
        try:
            self._hub.links.send_nowait(link, LogTailStop(session=session))
        except HubError:
            return  # gone meanwhile, and its tails with it

    def _on_output(self, link: Link, message: LogTailOutput) -> None:
        tail = self._tails.get(message.session)
        if tail is None or tail.asset_id != link.asset_id:
            self._send_stop(link, message.session)
            return
        tail.client.emit("log_tail_output", {"session": message.session, "data": message.data})

    def _on_closed(self, link: Link, message: LogTailClosed) -> None:
        tail = self._tails.get(message.session)
        if tail is not None and tail.asset_id == link.asset_id:
            self._tell_end(message.session, tail, message.reason)

    def _on_unlinked(self, link: Link) -> None:
        for session, tail in list(self._tails.items()):
            if tail.asset_id == link.asset_id:
                self._tell_end(session, tail, "offline")

    def _tell_end(self, session: str, tail: _Tail, reason: str) -> None:
        del self._tails[session]
        tail.client.emit("log_tail_closed", {"session": session, "reason": reason})


def _note_tail(session: Session, asset_id: str, who: Principal) -> None:
    asset = service.get_asset(session, asset_id)
    of = ("asset", asset.id)
    audit.record(session, asset.tenant_id, who, "files.read", of=of, what="log")
