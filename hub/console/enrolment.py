"""Enrolment's pages: tokens, machines that wait, device codes, and *Add agent*.

Rules: a token's text is shown once, on the page that made it, and the line to copy takes it from
standard input, never as an argument; whoever approves sees host, address and key fingerprint. The
row that waits turns green when a machine comes by that token.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Agent, Asset
from hub.clock import now_ms
from hub.console.access import may_see
from hub.console.rendering import page
from hub.errors import HubError
from hub.heartbeat import approval, enrolment_tokens
from hub.heartbeat.enrolment_tokens import Wanted
from hub.heartbeat.models import Enrolment, EnrolmentToken
from hub.requests import Caller, TheHub
from wire import enroltoken

router = APIRouter(prefix="/enrolment", include_in_schema=False)
SHOWN = 50
HOURS = 3600


@router.get("")
async def overview(
    request: Request, hub: TheHub, caller: Caller = may_see("enrolment.read")
) -> Response:
    """Show who waits, and the tokens."""
    waiting = await hub.database.read(caller.scope, _waiting)
    tokens = await hub.database.read(caller.scope, _tokens)
    return page(
        request,
        "enrolment/page.html",
        caller,
        waiting=waiting,
        tokens=tokens,
        now_ms=now_ms(),
    )


@router.get("/add")
async def add(request: Request, caller: Caller = may_see("enrolment.write")) -> Response:
    """Ask what the new machine's token shall allow."""
    return page(request, "enrolment/add.html", caller, fault=None)


@router.post("/add")
async def added(
    request: Request,
    hub: TheHub,
    uses: Annotated[int, Form()] = 1,
    hours: Annotated[int, Form()] = 24,
    tags: Annotated[str, Form(max_length=1024)] = "",
    profile: Annotated[str, Form(pattern="^(reporter|operator|full)$")] = "reporter",
    needs_approval: Annotated[bool, Form()] = False,
    caller: Caller = may_see("enrolment.write"),
) -> Response:
    """Make a token and show the line, once."""
    wanted = Wanted(uses, hours * HOURS, tags.split(), needs_approval, "console")
    try:
        row, text = await hub.database.write(
            caller.tenant_id, enrolment_tokens.make, caller, caller.tenant_id, wanted
        )
    except HubError as fault:
        return page(request, "enrolment/add.html", caller, status=fault.status, fault=fault)
    hub_url = hub.addresses.base(request)
    return page(
        request,
        "enrolment/line.html",
        caller,
        row=row,
        profile=profile,
        hub_url=hub_url,
        paste=enroltoken.carrying(text, hub_url, hub.addresses.pin),
        arrived=[],
    )


@router.get("/tokens/{token_id}/arrived")
async def arrived(
    request: Request, hub: TheHub, token_id: str, caller: Caller = may_see("enrolment.read")
) -> Response:
    """Show which machines have come by a token."""
    row, machines = await hub.database.read(caller.scope, _arrived, token_id)
    return page(request, "enrolment/arrived.html", caller, row=row, arrived=machines)


@router.post("/tokens/{token_id}/revoke")
async def revoke_token(
    hub: TheHub, token_id: str, caller: Caller = may_see("enrolment.write")
) -> Response:
    """Make a token worthless."""
    await hub.database.write(caller.scope, enrolment_tokens.revoke, caller, token_id)
    return RedirectResponse("/enrolment", 303)


@router.post("/pending/{asset_id}/approve")
async def approve(
    hub: TheHub, asset_id: str, caller: Caller = may_see("agents.approve")
) -> Response:
    """Let a waiting machine in."""
    for agent_id in await hub.database.write(caller.scope, approval.approve, caller, asset_id):
        await hub.links.cut(agent_id, "replaced")
    return RedirectResponse("/enrolment", 303)


@router.post("/pending/{asset_id}/refuse")
async def refuse(hub: TheHub, asset_id: str, caller: Caller = may_see("agents.write")) -> Response:
    """Turn a waiting machine away."""
    for agent_id in await hub.database.write(caller.scope, approval.refuse, caller, asset_id):
        await hub.links.cut(agent_id, "revoked")
    return RedirectResponse("/enrolment", 303)


def _tokens(session: Session) -> list[EnrolmentToken]:
    found = select(EnrolmentToken).order_by(EnrolmentToken.id.desc()).limit(SHOWN)
    return list(session.scalars(found))


def _waiting(session: Session) -> list[tuple[Enrolment, Agent, Asset]]:
    found = (
        select(Enrolment, Agent, Asset)
        .join(Agent, Agent.id == Enrolment.agent_id)
        .join(Asset, Asset.id == Agent.asset_id)
        .where(Agent.state == "pending")
        .order_by(Enrolment.agent_id)
        .limit(SHOWN)
    )
    return [(row[0], row[1], row[2]) for row in session.execute(found)]


def _arrived(
    session: Session, token_id: str
) -> tuple[EnrolmentToken | None, list[tuple[Agent, Asset]]]:
    found = (
        select(Agent, Asset)
        .join(Enrolment, Enrolment.agent_id == Agent.id)
        .join(Asset, Asset.id == Agent.asset_id)
        .where(Enrolment.source_id == token_id)
        .order_by(Agent.id)
        .limit(SHOWN)
    )
    machines = [(row[0], row[1]) for row in session.execute(found)]
    return session.get(EnrolmentToken, token_id), machines
