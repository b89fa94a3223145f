"""Routes of the audit log: read, newest first, one chain at a time.

Rules: a caller reads their own tenant's chain; a system_admin any, and the system's own, whose name
is `system`. Rows are ordered by sequence, never by stamp.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hub import pages
from hub.audit import seals
from hub.audit.models import AuditHead, AuditRow
from hub.audit.service import GENESIS, SYSTEM_CHAIN
from hub.authorize import Principal
from hub.clock import iso
from hub.errors import NotFoundError
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

SYSTEM = "system"
Word = Annotated[str | None, Query(min_length=1, max_length=256)]
Moment = Annotated[AwareDatetime | None, Query()]
TenantId = Annotated[
    str | None, Query(max_length=64, description="for a system_admin; `system`: the hub's own")
]


class AuditView(BaseModel):
    """One request, refusal or result."""

    seq: int
    at: str
    actor_kind: str
    actor_id: str
    actor: str
    address: str | None
    action: str
    outcome: str
    object_type: str | None
    object_id: str | None
    detail: dict[str, Any]
    digest: str


class HeadView(BaseModel):
    """Where a chain ends, and its last signed head."""

    seq: int
    digest: str
    sealed_seq: int | None
    sealed_at: str | None
    signature: str | None
    public_key: str


@router.get("")
async def list_audit(
    hub: TheHub,
    action: Word = None,
    outcome: Word = None,
    actor: Word = None,
    object_type: Word = None,
    object_id: Word = None,
    since: Moment = None,
    until: Moment = None,
    tenant_id: TenantId = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("audit.read"),
) -> Page[AuditView]:
    """List one chain, newest first. `action` may end with `*`; `actor` is a name or an id."""
    query = select(AuditRow).where(AuditRow.tenant_id == _chain_of(caller, tenant_id))
    query = _narrowed(query, outcome=outcome, object_type=object_type, object_id=object_id)
    query = _in_time(_acted(query, action, actor), since, until)
    rows, after = await hub.database.read(
        caller.scope, pages.fetch, query, (AuditRow.seq,), limit, cursor, descending=True
    )
    return Page(items=[view(row) for row in rows], next=after)


@router.get("/head")
async def head(
    hub: TheHub, tenant_id: TenantId = None, caller: Caller = may("audit.read")
) -> HeadView:
    """Tell where a chain ends, and the last head that the hub signed."""
    chain = _chain_of(caller, tenant_id)
    return await hub.database.read(caller.scope, _head, chain, hub.keyring.public_key_hex)


def view(row: AuditRow) -> AuditView:
    """Tell one row."""
    return AuditView(
        seq=row.seq,
        at=iso(row.at_ms),
        actor_kind=row.actor_kind,
        actor_id=row.actor_id,
        actor=row.actor_name,
        address=row.address,
        action=row.action,
        outcome=row.outcome,
        object_type=row.object_type,
        object_id=row.object_id,
        detail=row.detail,
        digest=row.digest,
    )


def _chain_of(caller: Principal, tenant_id: str | None) -> str:
    """Return whose chain is asked for.

    Raises:
        NotFoundError: it is not the caller's to see.
    """
    if tenant_id is None or tenant_id == caller.tenant_id:
        return caller.tenant_id
    if caller.scope is not None:
        raise NotFoundError
    return SYSTEM_CHAIN if tenant_id == SYSTEM else tenant_id


def _narrowed(query: Select[AuditRow], **wanted: str | None) -> Select[AuditRow]:
    for name, value in wanted.items():
        if value is not None:
            query = query.where(getattr(AuditRow, name) == value)
    return query


def _acted(query: Select[AuditRow], action: str | None, actor: str | None) -> Select[AuditRow]:
    if action is not None and action.endswith("*"):
        query = query.where(AuditRow.action.startswith(action[:-1], autoescape=True))
    elif action is not None:
        query = query.where(AuditRow.action == action)
    if actor is not None:
        query = query.where((AuditRow.actor_name == actor) | (AuditRow.actor_id == actor))
    return query


def _in_time(
    query: Select[AuditRow], since: datetime | None, until: datetime | None
) -> Select[AuditRow]:
    if since is not None:
        query = query.where(AuditRow.at_ms >= int(since.timestamp() * 1000))
    if until is not None:
        query = query.where(AuditRow.at_ms < int(until.timestamp() * 1000))
    return query


def _head(session: Session, chain: str, public_key: str) -> HeadView:
    found = session.get(AuditHead, chain)
    sealed = seals.newest_seal(session, chain)
    return HeadView(
        seq=found.seq if found else 0,
        digest=found.digest if found else GENESIS,
        sealed_seq=sealed.seq if sealed else None,
        sealed_at=iso(sealed.at_ms) if sealed else None,
        signature=sealed.signature if sealed else None,
        public_key=public_key,
    )
