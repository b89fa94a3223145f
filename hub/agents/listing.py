"""The list of machines: searched, filtered and sorted by the database, page by page.

Rules: nothing is counted and nothing is skipped over: a page begins behind the last row of the one
before it. A search text matches literally, wherever it stands. Sorting goes over the key and the
id, so that equal keys have an order.

Source: product "Agents"; fault cases B ("Search/sort/filter").
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Query
from pydantic import BaseModel, StringConstraints
from sqlalchemy import ColumnElement, Select, Text, cast, func, or_, select, tuple_
from sqlalchemy.orm import Session, defer

from hub import pages
from hub.agents.models import Agent, Asset

Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")]
PlainText = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
SortKey = Literal[
    "name", "presence", "seen", "version", "platform", "cpu", "mem", "disk", "rtt", "backup",
    "created",
]  # fmt: skip
SORTS: dict[str, ColumnElement[Any]] = {
    "name": Asset.name.expression,
    "presence": Asset.presence.expression,
    "seen": func.coalesce(Asset.seen_ms, 0),
    "version": func.coalesce(Asset.agent_version, ""),
    "platform": func.coalesce(Asset.platform, ""),
    "cpu": func.coalesce(Asset.cpu, -1.0),
    "mem": func.coalesce(Asset.mem_percent, -1.0),
    "disk": func.coalesce(Asset.disk_percent, -1.0),
    "rtt": func.coalesce(Asset.rtt_ms, -1.0),
    "backup": func.coalesce(Asset.last_backup_ms, 0),
    "created": Asset.created_ms.expression,
}


class Filter(BaseModel):
    """What a list is narrowed to; every part must hold."""

    q: PlainText | None = None
    presence: list[Literal["online", "stale", "offline", "conflict"]] | None = None
    tag: list[Tag] | None = None
    platform: PlainText | None = None
    version: PlainText | None = None
    credential: Literal["pending", "active", "revoked"] | None = None
    tenant_id: PlainText | None = None


class Order(NamedTuple):
    """What a list is sorted by."""

    key: SortKey
    descending: bool


Presences = Annotated[
    list[Literal["online", "stale", "offline", "conflict"]] | None, Query(max_length=4)
]
Tags = Annotated[list[Tag] | None, Query(max_length=16)]


def page(
    session: Session, wanted: Filter, order: Order, limit: int, cursor: str | None
) -> tuple[list[tuple[Asset, Agent | None]], str | None]:
    """Return one page: machines, each with its newest credential; and the next page's cursor.

    Raises:
        BadRequestError: `bad_cursor`.
    """
    found, following = machines(session, wanted, order, limit, cursor)
    agents = credentials(session, [asset.id for asset in found])
    return [(asset, agents.get(asset.id)) for asset in found], following


def machines(
    session: Session, wanted: Filter, order: Order, limit: int, cursor: str | None
) -> tuple[list[Asset], str | None]:
    """Return one page of machines alone, and the next page's cursor.

    Raises:
        BadRequestError: `bad_cursor`.
    """
    key = SORTS[order.key]
    query = _narrowed(session, select(Asset, key).options(defer(Asset.sample)), wanted)
    if cursor:
        types: list[type] = [key.type.python_type, str]
        after, seen = tuple_(key, Asset.id), tuple_(*pages.read(cursor, types))
        query = query.where(after < seen if order.descending else after > seen)
    sorting = [one.desc() if order.descending else one.asc() for one in (key, Asset.id)]
    rows = session.execute(query.order_by(*sorting).limit(limit + 1)).all()
    found = [asset for asset, _ in rows[:limit]]
    following = pages.write([rows[limit - 1][1], found[-1].id]) if len(rows) > limit else None
    return found, following


def credentials(session: Session, asset_ids: list[str]) -> dict[str, Agent]:
    """Return the credential of each machine: the one in force, else the newest."""
    found = select(Agent).where(Agent.asset_id.in_(asset_ids))
    rows = session.scalars(found.order_by(Agent.state == "active", Agent.id))
    return {agent.asset_id: agent for agent in rows}


def _narrowed(session: Session, query: Select[Any], wanted: Filter) -> Select[Any]:
    query = query.where(Asset.deleted_ms.is_(None))
    if wanted.q:
        query = query.where(_matches(session, wanted.q))
    if wanted.presence:
        query = query.where(Asset.presence.in_(wanted.presence))
    for tag in wanted.tag or ():
        query = query.where(cast(Asset.tags, Text).contains(f'"{tag}"', autoescape=True))
    if wanted.platform:
        query = query.where(Asset.platform == wanted.platform)
    if wanted.version:
        query = query.where(Asset.agent_version == wanted.version)
    if wanted.credential:
        with_it = select(Agent.asset_id).where(Agent.state == wanted.credential)
        query = query.where(Asset.id.in_(with_it))
    if wanted.tenant_id:
        query = query.where(Asset.tenant_id == wanted.tenant_id)
    return query


def _matches(session: Session, text: str) -> ColumnElement[bool]:
    # SQLite's LIKE tells no capital from a small letter as it is, and lower() doubles its time.
    is_sqlite = session.get_bind().dialect.name == "sqlite"

    def has(column: ColumnElement[Any]) -> ColumnElement[bool]:
        contains = column.contains if is_sqlite else column.icontains
        return contains(text, autoescape=True)

    columns = (Asset.name, Asset.platform, Asset.release, Asset.agent_version)
    return or_(
        *(has(column.expression) for column in columns),
        has(cast(Asset.tags, Text)),
        Asset.id.in_(select(Agent.asset_id).where(has(Agent.client_id.expression))),
    )
