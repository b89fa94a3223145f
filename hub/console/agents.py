"""The list of machines, a machine's overview, and the palette.

Rules: search, filter and sort are the API's own (hub.agents.listing), over all machines and page by
page; nothing is counted but what chips show, per state.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.agents import api, listing, service
from hub.agents.models import Asset, PresenceChange
from hub.clock import now_ms
from hub.console.access import may_see
from hub.console.forms import checked
from hub.console.one_agent import tab
from hub.console.rendering import page
from hub.console.strips import DAY_MS, Stretch, strip
from hub.ids import new_id
from hub.requests import Caller, TheHub

router = APIRouter(include_in_schema=False)
SHOWN = 50
FOUND = 8
STATES = ("online", "stale", "offline", "conflict")
CHARTS = (
    ("CPU and memory", "percent", "cpu mem_percent", "CPU|memory"),
    ("Load", "load", "load1", "1 minute"),
    ("Fullest disk", "percent", "disk_percent", "disk"),
    ("Network", "rate", "rx_bps tx_bps", "in|out"),
    ("Round trip", "ms", "rtt_ms", "RTT"),
)
PLACES = (
    ("Agents", "/agents", "agents.read"),
    ("Add agent", "/enrolment/add", "enrolment.write"),
    ("Sessions", "/sessions", "sessions.read"),
    ("Enrolment", "/enrolment", "enrolment.read"),
    ("Alerts", "/alerts", "alerts.read"),
    ("Audit", "/audit", "audit.read"),
    ("Users", "/users", "users.read"),
    ("Your account", "/account", "self.read"),
)
TABS = ("activity", "commands", "shell", "backups", "cron", "keys", "workers", "inventory")


@router.get("/agents")
async def agents(
    request: Request,
    hub: TheHub,
    q: Annotated[str, Query(max_length=128)] = "",
    presence: Annotated[str, Query(max_length=16)] = "",
    tag: Annotated[str, Query(max_length=64)] = "",
    sort: Annotated[str, Query(max_length=16)] = "name",
    cursor: Annotated[str, Query(max_length=1024)] = "",
    caller: Caller = may_see("agents.read"),
) -> Response:
    """List machines."""
    asked = {"q": q, "presence": presence, "tag": tag, "sort": sort}
    wanted = checked(
        listing.Filter,
        q=q or None,
        presence=[presence] if presence in STATES else None,
        tag=[tag] if tag else None,
    )
    key: Any = sort if sort in listing.SORTS else "name"
    order = listing.Order(key, key not in ("name", "presence", "platform", "version"))
    now = now_ms()
    found, following, histories, counts = await hub.database.read(
        caller.scope, _listed, wanted, order, cursor or None, now
    )
    return page(
        request,
        "agents/list.html",
        caller,
        items=found,
        strips={asset.id: strip(histories.get(asset.id, []), now) for asset in found},
        counts=[(word, counts[word]) for word in STATES if counts.get(word)],
        total=sum(counts.values()),
        tags=sorted({tag for asset in found for tag in asset.tags}),
        query=asked,
        next=following,
        here=_address(asked, cursor=cursor),
        link=lambda **changes: _address(asked, **changes),
    )


@router.post("/agents/bulk")
async def bulk(
    hub: TheHub,
    asset_id: Annotated[list[str], Form(max_length=200)],
    tag: Annotated[str, Form(max_length=64)] = "",
    caller: Caller = may_see("agents.tag"),
) -> Response:
    """Tag the chosen machines."""
    for one in asset_id:
        machine = await hub.database.read(caller.scope, service.get_asset, one)
        body = checked(api.Tags, tags=sorted({*machine.tags, *tag.split()}))
        await api.tag_agent(hub, one, body, caller)
    return RedirectResponse("/agents", 303)


@router.get("/agents/{asset_id}")
async def overview(
    request: Request,
    hub: TheHub,
    asset_id: str,
    range: Annotated[str, Query(pattern="^(1h|24h|7d|30d)$")] = "1h",  # noqa: A002  (in the address)
    caller: Caller = may_see("agents.read"),
) -> Response:
    """Show one machine: its figures now and before, and what it is."""
    detail = await api.show_agent(hub, asset_id, caller)
    now = now_ms()
    days = await hub.database.read(caller.scope, _days, [asset_id], now)
    return await tab(
        request,
        hub,
        caller,
        asset_id,
        "agents/overview.html",
        detail=detail,
        strip=strip(days.get(asset_id, []), now),
        charts=CHARTS,
        range=range,
    )


@router.post("/agents/{asset_id}/tags")
async def tags_of(
    hub: TheHub,
    asset_id: str,
    tags: Annotated[str, Form(max_length=2048)] = "",
    caller: Caller = may_see("agents.tag"),
) -> Response:
    """Set a machine's tags."""
    await api.tag_agent(hub, asset_id, checked(api.Tags, tags=tags.split()), caller)
    return RedirectResponse(f"/agents/{asset_id}", 303)


@router.post("/agents/{asset_id}/resolve")
async def resolve(
    hub: TheHub, asset_id: str, caller: Caller = may_see("agents.approve")
) -> Response:
    """End an identity conflict."""
    await api.resolve_conflict(hub, asset_id, caller)
    return RedirectResponse(f"/agents/{asset_id}", 303)


@router.get("/palette")
async def palette(
    request: Request,
    hub: TheHub,
    q: Annotated[str, Query(max_length=128)] = "",
    at: Annotated[str, Query(max_length=256)] = "",
    caller: Caller = may_see("agents.read"),
) -> Response:
    """Find places, machines and what to do with them."""
    words = q.lower().split()
    places = [
        (name, path, "page")
        for name, path, action in PLACES
        if caller.role in _allowed(action) and all(word in name.lower() for word in words)
    ]
    machines = await hub.database.read(caller.scope, _named, words, at)
    return page(request, "palette.html", caller, items=[*places, *machines], key=new_id()[-6:])


def _address(asked: dict[str, str], **changes: str) -> str:
    values = {name: value for name, value in {**asked, **changes}.items() if value}
    if values.get("sort") == "name":
        del values["sort"]
    return "/agents" + (f"?{urlencode(values)}" if values else "")


def _allowed(action: str) -> Any:
    from hub.authorize import ACTIONS

    return ACTIONS[action]


def _listed(
    session: Session, wanted: listing.Filter, order: listing.Order, cursor: str | None, now: int
) -> tuple[list[Asset], str | None, dict[str, list[Stretch]], dict[str, int]]:
    """Return a page of machines, the next one's cursor, each one's day, and counts by state."""
    found, following = listing.machines(session, wanted, order, SHOWN, cursor)
    counted = (
        select(Asset.presence, func.count())
        .where(Asset.deleted_ms.is_(None))
        .group_by(Asset.presence)
    )
    counts = dict(session.execute(counted).all())
    return found, following, _days(session, [asset.id for asset in found], now), counts


def _days(session: Session, asset_ids: list[str], now: int) -> dict[str, list[Stretch]]:
    """Return how each machine was in the last day."""
    days: dict[str, list[Stretch]] = {}
    changes = (
        select(PresenceChange.asset_id, PresenceChange.at_ms, PresenceChange.state)
        .where(PresenceChange.asset_id.in_(asset_ids), PresenceChange.at_ms > now - 2 * DAY_MS)
        .order_by(PresenceChange.seq)
    )
    for asset_id, at_ms, state in session.execute(changes):
        days.setdefault(asset_id, []).append(Stretch(at_ms, state))
    return days


def _named(session: Session, words: list[str], at: str) -> list[tuple[str, str, str]]:
    parts = at.split("/")
    on_machine = parts[2] if parts[:2] == ["", "agents"] and len(parts) > 2 else None
    here = [
        (f"{tab.capitalize()} of this agent", f"/agents/{on_machine}/{tab}", "here")
        for tab in TABS
        if on_machine and all(word in f"{tab} of this agent" for word in words)
    ]
    query = select(Asset.id, Asset.name).where(Asset.deleted_ms.is_(None))
    for word in words:
        query = query.where(Asset.name.icontains(word, autoescape=True))
    rows = session.execute(query.order_by(Asset.name).limit(FOUND))
    return here + [(name, f"/agents/{asset_id}", "agent") for asset_id, name in rows]
