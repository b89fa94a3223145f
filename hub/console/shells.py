"""Terminals and recordings.

Rules: the terminal itself speaks over the one socket (hub/shell/namespace.py); a page only names
the session, so that a reload attaches again. xterm.js makes style elements of its own, the player
runs WebAssembly: these pages alone allow that.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.console import rendering
from hub.console.access import may_see
from hub.console.one_agent import machine_of, tab
from hub.console.rendering import page
from hub.pages import Cursor, fetch
from hub.requests import Caller, TheHub
from hub.shell import service
from hub.shell.models import ShellSession

router = APIRouter(include_in_schema=False)
SHOWN = 20


@router.get("/agents/{asset_id}/shell")
async def new_shell(
    request: Request,
    hub: TheHub,
    asset_id: str,
    new: Annotated[bool, Query()] = False,
    caller: Caller = may_see("shell.observe"),
) -> Response:
    """Show a new terminal, or the caller's live one."""
    rows = await hub.database.read(caller.scope, _of_machine, asset_id)
    mine = [row for row in rows if row.user_id == caller.id and row.ended_ms is None]
    if mine and not new:
        return RedirectResponse(f"/agents/{asset_id}/shell/{mine[0].id}", 303)
    return await _terminal(request, hub, caller, asset_id, None, observe=False)


@router.get("/agents/{asset_id}/shell/list")
async def sessions_of(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("sessions.read")
) -> Response:
    """List the sessions of one machine."""
    machine = await machine_of(hub, caller, asset_id)
    rows = await hub.database.read(caller.scope, _of_machine, asset_id)
    watching = {row.id: _watching(hub, row.id) for row in rows}
    return page(request, "shell/list.html", caller, machine=machine, items=rows, watching=watching)


@router.get("/agents/{asset_id}/shell/{session_id}")
async def one_shell(
    request: Request,
    hub: TheHub,
    asset_id: str,
    session_id: str,
    observe: Annotated[bool, Query()] = False,
    caller: Caller = may_see("shell.observe"),
) -> Response:
    """Show one session: its writer's terminal, or a window on it."""
    row = await hub.database.read(caller.scope, service.get_session, session_id)
    if row.ended_ms is not None:
        return RedirectResponse(f"/sessions/{row.id}", 303)
    is_writer = row.user_id == caller.id and not observe
    return await _terminal(request, hub, caller, asset_id, row.id, observe=not is_writer)


@router.get("/sessions")
async def sessions(
    request: Request,
    hub: TheHub,
    cursor: Cursor = None,
    caller: Caller = may_see("sessions.read"),
) -> Response:
    """List all sessions, the newest first."""
    rows, following = await hub.database.read(
        caller.scope,
        fetch,
        service.query(None, None),
        (ShellSession.id,),
        50,
        cursor,
        descending=True,
    )
    names = await hub.database.read(caller.scope, _names, {row.asset_id for row in rows})
    return page(request, "sessions/list.html", caller, items=rows, names=names, next=following)


@router.get("/sessions/{session_id}")
async def play(
    request: Request, hub: TheHub, session_id: str, caller: Caller = may_see("sessions.read")
) -> Response:
    """Play one recording."""
    row = await hub.database.read(caller.scope, service.get_session, session_id)
    names = await hub.database.read(caller.scope, _names, {row.asset_id})
    return page(
        request,
        "sessions/play.html",
        caller,
        policy=rendering.PLAYER,
        row=row,
        name=names.get(row.asset_id, row.asset_id),
    )


async def _terminal(
    request: Request, hub: TheHub, caller: Caller, asset_id: str, session_id: Any, *, observe: bool
) -> Response:
    return await tab(
        request,
        hub,
        caller,
        asset_id,
        "shell/page.html",
        policy=rendering.TERMINAL,
        session=session_id,
        observe=observe,
        recorded=True,
    )


def _of_machine(session: Session, asset_id: str) -> list[ShellSession]:
    found = (
        select(ShellSession)
        .where(ShellSession.asset_id == asset_id)
        .order_by(ShellSession.id.desc())
        .limit(SHOWN)
    )
    return list(session.scalars(found))


def _names(session: Session, ids: set[str]) -> dict[str, str]:
    rows = session.execute(select(Asset.id, Asset.name).where(Asset.id.in_(ids)))
    return {row.id: row.name for row in rows}


def _watching(hub: TheHub, session_id: str) -> int:
    live = hub.shells.mine(session_id)
    if live is None:
        return 0
    return len(live.audience.observers) + (live.audience.writer is not None)
