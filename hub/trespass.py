"""What happens when somebody names an object that is another tenant's: it is told, to both sides.

Rules: the caller hears `not_found`, the same body and no later than for what does not exist: the
looking comes after the answer. Whether an id is somebody else's is asked of every table of tenants
by its key. Told in the caller's tenant (`cross_tenant_denied`, the id as its SHA-256 alone) and in
the system's own chain, which system_admins read.
Source: fault cases B.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.authorize import Principal
from hub.db.tables import Table as Tables
from hub.db.tables import TenantOwned
from hub.errors import HubError, NotFoundError
from hub.requests import hub_of

DENIED = "cross_tenant_denied"
Handler = Callable[[Request, Exception], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Look into every `not_found` of an application, whatever page tells it."""
    tell: Handler = app.exception_handlers[HubError]  # type: ignore[assignment]

    async def not_found(request: Request, error: Exception) -> Response:
        who: Principal | None = getattr(request.state, "principal", None)
        said = [*request.path_params.values(), *request.query_params.values()]
        ids = [text for text in said if is_id(text)]
        if who is not None and who.scope is not None and ids:
            hub = hub_of(request)
            route = getattr(request.scope.get("route"), "path", "")
            hub.later(hub.database.write(None, note, who, ids, route))
        return await tell(request, error)

    app.add_exception_handler(NotFoundError, not_found)


def note(session: Session, who: Principal, ids: Iterable[str], route: str) -> int:
    """Tell of those ids that are another tenant's; returns how many. In the system's scope."""
    told = 0
    for one in ids:
        owner = owner_of(session, one)
        if owner is None or owner == who.tenant_id:
            continue
        told += 1
        digest = hashlib.sha256(one.encode()).hexdigest()
        said: dict[str, Any] = {"target": digest, "route": route}
        audit.record(session, who.tenant_id, who, DENIED, "refused", **said)
        said |= {"tenant": who.tenant_id, "owner": owner}
        audit.record(session, audit.SYSTEM_CHAIN, who, DENIED, "refused", **said)
    return told


def owner_of(session: Session, row_id: str) -> str | None:
    """Return whose row an id is, in whatever table."""
    for table in _tables():
        owner = session.scalar(select(table.c.tenant_id).where(table.c.id == row_id))
        if owner is not None:
            return str(owner)
    return None


def is_id(text: object) -> bool:
    """Tell whether a text is the id of a row of ours."""
    try:
        return str(uuid.UUID(str(text))) == text
    except ValueError:
        return False


def _tables() -> list[Table]:
    found = [
        mapper.local_table
        for mapper in Tables.registry.mappers
        if issubclass(mapper.class_, TenantOwned)
    ]
    return [table for table in found if isinstance(table, Table) and "id" in table.c]
