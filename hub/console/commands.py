"""The command panel of an agent: a template's card, its form, and how each run is getting on.

Rules: the same request as the API's, with a key of its own for each form that was rendered, so that
a form that is sent twice runs once.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.console import forms
from hub.console.access import may_see
from hub.console.one_agent import machine_of, tab
from hub.console.rendering import page
from hub.errors import BadRequestError, ForbiddenError, HubError
from hub.heartbeat import command_requests, inventories, notices
from hub.heartbeat.command_templates import TEMPLATES
from hub.heartbeat.models import Artifact, Command, InventoryVersion
from hub.ids import new_id
from hub.requests import Caller, TheHub, refused
from wire.commands import CommandRequest

router = APIRouter(prefix="/agents/{asset_id}", include_in_schema=False)
SHOWN = 20


@router.get("/commands")
async def panel(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("commands.read")
) -> Response:
    """Show the templates and the latest runs."""
    return await _panel(request, hub, caller, asset_id)


@router.get("/commands/list")
async def runs(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("commands.read")
) -> Response:
    """List the latest runs."""
    machine = await machine_of(hub, caller, asset_id)
    rows = await hub.database.read(caller.scope, _latest, asset_id)
    return page(request, "commands/list.html", caller, machine=machine, items=rows)


@router.post("/commands")
async def run(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("commands.run")
) -> Response:
    """Ask the agent to collect something."""
    form = await request.form()
    values = {name: [str(one) for one in form.getlist(name)] for name in form}
    try:
        command = await _request(hub, caller, asset_id, values)
    except HubError as error:
        if isinstance(error, ForbiddenError):
            await refused(hub, caller, "command.requested", error, asset=asset_id)
        return await _panel(request, hub, caller, asset_id, fault=error)
    return RedirectResponse(f"/agents/{asset_id}/commands/{command.id}", 303)


@router.get("/commands/{command_id}")
async def one(
    request: Request,
    hub: TheHub,
    asset_id: str,
    command_id: str,
    caller: Caller = may_see("commands.read"),
) -> Response:
    """Show one run and its result."""
    command = await hub.database.read(caller.scope, command_requests.get, command_id)
    artifact = await hub.database.read(caller.scope, _artifact, command.artifact_id)
    return await tab(
        request,
        hub,
        caller,
        asset_id,
        "commands/one.html",
        command=command,
        artifact=artifact,
        offer=TEMPLATES[command.command_type],
        raw=json.dumps(command.result_summary, indent=2, ensure_ascii=False),
    )


@router.post("/commands/{command_id}/cancel")
async def cancel(
    hub: TheHub, asset_id: str, command_id: str, caller: Caller = may_see("commands.run")
) -> Response:
    """End a run that has not ended."""
    ended = await hub.database.write(caller.scope, command_requests.cancel, caller, command_id)
    notices.moved(hub, ended)
    return RedirectResponse(f"/agents/{asset_id}/commands/{command_id}", 303)


@router.get("/inventory")
async def inventory(
    request: Request,
    hub: TheHub,
    asset_id: str,
    version: str | None = None,
    caller: Caller = may_see("agents.read"),
) -> Response:
    """Show what the machine is made of, and what has changed."""
    rows = await hub.database.read(caller.scope, inventories.versions, asset_id)
    shown = next((row for row in rows if row.id == version), rows[0] if rows else None)
    before = next((row for row in rows if shown is not None and row.id < shown.id), None)
    return await tab(
        request,
        hub,
        caller,
        asset_id,
        "inventory/page.html",
        versions=rows,
        shown=shown,
        body=inventories.body(shown) if shown else {},
        changes=_changes(before, shown),
    )


def _changes(
    before: InventoryVersion | None, after: InventoryVersion | None
) -> list[dict[str, Any]]:
    if before is None or after is None:
        return []
    return inventories.difference(inventories.body(before), inventories.body(after))


async def _request(
    hub: TheHub, caller: Caller, asset_id: str, values: dict[str, list[str]]
) -> Command:
    command_type = values.get("command_type", [""])[0]
    template = TEMPLATES.get(command_type)
    params = forms.read(template.schema, values) if template else {}
    asked = _read_request(
        {
            "asset_id": asset_id,
            "command_type": command_type,
            "idempotency_key": values.get("key", [""])[0],
            "params": params,
            "when_offline": values.get("when_offline", ["queue"])[0],
            "expires_in": forms.whole("expires in", values.get("expires_in", ["86400"])[0]),
        }
    )
    done = await hub.database.write(
        caller.scope,
        command_requests.request,
        caller,
        asked,
        is_linked=hub.links.of(asset_id) is not None,
    )
    if done.is_new:
        notices.moved(hub, done.command)
        await notices.wanted(hub, done.command)
    return done.command


def _read_request(values: dict[str, Any]) -> CommandRequest:
    try:
        return msgspec.convert(values, CommandRequest)
    except msgspec.ValidationError as error:
        raise BadRequestError(str(error)[:200], code="bad_params") from error


async def _panel(
    request: Request,
    hub: TheHub,
    caller: Caller,
    asset_id: str,
    fault: HubError | None = None,
) -> Response:
    rows = await hub.database.read(caller.scope, _latest, asset_id)
    cards = [(one, forms.fields(one.schema), new_id()) for one in TEMPLATES.values()]
    return await tab(
        request,
        hub,
        caller,
        asset_id,
        "commands/panel.html",
        cards=cards,
        items=rows,
        fault=fault,
        is_linked=hub.links.of(asset_id) is not None,
    )


def _latest(session: Session, asset_id: str) -> list[Command]:
    found = select(Command).where(Command.asset_id == asset_id).order_by(Command.id.desc())
    return list(session.scalars(found.limit(SHOWN)))


def _artifact(session: Session, artifact_id: str | None) -> Artifact | None:
    return session.get(Artifact, artifact_id) if artifact_id else None
