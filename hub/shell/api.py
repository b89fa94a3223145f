"""Sessions by HTTP: opened for whoever attaches, listed, closed, their recordings read.

Rules: everybody of the tenant may read sessions and recordings, and reading a recording is audited;
closing is for whoever opened it, and for admins.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from hub.clock import iso, iso_or_none
from hub.errors import NotFoundError
from hub.pages import Cursor, Limit, Page, fetch
from hub.requests import Caller, TheHub, may
from hub.shell import cast, service
from hub.shell.models import ShellSession
from hub.shell.states import HubReason

router = APIRouter(prefix="/api/v1/shells", tags=["shells"])
Cells = Annotated[int, Field(ge=1, le=1000)]


class NewShell(BaseModel):
    """What a session is opened with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    asset_id: Annotated[str, Field(min_length=1, max_length=64)]
    cols: Cells = 80
    rows: Cells = 24
    purpose: Annotated[str, Field(max_length=255)] = ""


class ShellOut(BaseModel):
    """One session."""

    id: str
    asset_id: str
    asset_name: str
    user: str
    purpose: str
    cols: int
    rows: int
    state: str
    reason: str | None
    detail: str | None
    code: int | None
    signal: str | None
    opened_at: str
    ended_at: str | None
    recording: str
    recording_bytes: int | None
    recording_sha256: str | None
    recording_truncated: bool
    has_writer: bool
    observers: int


@router.get("")
async def list_sessions(
    hub: TheHub,
    asset_id: Annotated[str | None, Query(max_length=64)] = None,
    state: Literal["live", "open", "closing", "ended"] | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("sessions.read"),
) -> Page[ShellOut]:
    """List sessions, the newest first."""
    rows, following = await hub.database.read(
        caller.scope, fetch, service.query(asset_id, state), (ShellSession.id,), limit, cursor,
        descending=True,
    )  # fmt: skip
    return Page(items=[_out(hub, row) for row in rows], next=following)


@router.post("", status_code=201)
async def open_session(hub: TheHub, body: NewShell, caller: Caller = may("shell.open")) -> ShellOut:
    """Open a session; whoever attaches to it writes in it."""
    row = await hub.shells.open(caller, body.asset_id, body.cols, body.rows, body.purpose)
    return _out(hub, row)


@router.get("/{session_id}")
async def show_session(
    hub: TheHub, session_id: str, caller: Caller = may("sessions.read")
) -> ShellOut:
    """Show one session."""
    return _out(hub, await hub.database.read(caller.scope, service.get_session, session_id))


@router.post("/{session_id}/close")
async def close_session(
    hub: TheHub, session_id: str, caller: Caller = may("shell.open")
) -> ShellOut:
    """End a session's processes; its state tells when they have ended."""
    row = await hub.database.read(caller.scope, service.get_session, session_id)
    service.check_owner(caller, row.user_id)
    return _out(hub, await hub.shells.close(session_id, caller, HubReason.CLOSED))


@router.get(
    "/{session_id}/recording",
    response_class=FileResponse,
    responses={200: {"content": {cast.MEDIA_TYPE: {}}, "description": "asciicast v3"}},
)
async def read_recording(
    hub: TheHub, session_id: str, caller: Caller = may("sessions.read")
) -> FileResponse:
    """Read a session's recording; a live one's as far as it is on the disk."""
    row = await hub.database.write(caller.scope, _note_reading, session_id, caller)
    path = hub.shells.recordings.path(row.tenant_id, row.id)
    if row.recording == "deleted" or not path.exists():
        raise NotFoundError("this session has no recording any more")
    return FileResponse(path, media_type=cast.MEDIA_TYPE, filename=f"{row.id}.cast")


def _note_reading(session: Session, session_id: str, who: Caller) -> ShellSession:
    service.note(session, session_id, who, "shell.read_recording")
    return service.get_session(session, session_id)


def _out(hub: TheHub, row: ShellSession) -> ShellOut:
    live = hub.shells.mine(row.id)
    return ShellOut(
        id=row.id,
        asset_id=row.asset_id,
        asset_name=row.asset_name,
        user=row.user_name,
        purpose=row.purpose,
        cols=row.cols,
        rows=row.rows,
        state=row.state,
        reason=row.end_reason,
        detail=row.detail,
        code=row.code,
        signal=row.signal,
        opened_at=iso(row.opened_ms),
        ended_at=iso_or_none(row.ended_ms),
        recording=row.recording,
        recording_bytes=row.recording_bytes,
        recording_sha256=row.recording_sha256,
        recording_truncated=row.recording_truncated,
        has_writer=live is not None and live.audience.writer is not None,
        observers=0 if live is None else len(live.audience.observers),
    )
