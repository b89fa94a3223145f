"""Append to the audit log.

Rules: in the same unit of work as what it tells of, so that neither exists without the other; no
secret, no terminal data and no command output in `detail`. A refusal has a unit of its own, since
the refused one is rolled back.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.audit.models import AuditHead, AuditRow
from hub.authorize import Principal
from hub.clock import now_ms
from hub.ids import new_id

GENESIS = "0" * 64
SYSTEM_CHAIN = ""
"""The tenant of rows that are no tenant's: what system_admins alone see."""
SYSTEM = Principal("system", "hub", "hub", "", None)


def record(
    session: Session,
    /,
    tenant_id: str,
    who: Principal,
    action: str,
    outcome: str = "ok",
    *,
    of: tuple[str, str] | None = None,
    **detail: Any,
) -> AuditRow:
    """Append one row to a tenant's chain.

    Args:
        tenant_id: whose chain.
        who: the actor; `SYSTEM` for what the hub does by itself.
        action: an action of `hub.authorize`, or an event such as `command.accepted`.
        outcome: `ok`, `refused`, `failed`, or a reason.
        of: type and id of the object, such as `("agent", agent.id)`.
        detail: JSON values.
    """
    head = _locked_head(session, tenant_id)
    row = AuditRow(
        id=new_id(),
        tenant_id=tenant_id,
        seq=head.seq + 1,
        at_ms=now_ms(),
        actor_kind=who.kind,
        actor_id=who.id,
        actor_name=_kept(who.name, 256),
        address=who.address and _kept(who.address, 64),
        action=action,
        outcome=_kept(outcome, 32),
        object_type=of[0] if of else None,
        object_id=_kept(of[1], 256) if of else None,
        detail=detail,
    )
    row.digest = chain(head.digest, row)
    head.seq, head.digest = row.seq, row.digest
    session.add(row)
    session.flush()
    return row


def _kept(text: str, max_chars: int) -> str:
    """Return a text as every database keeps it: what is digested must be what is read again."""
    return text[:max_chars].replace("\0", "\ufffd")


def _locked_head(session: Session, tenant_id: str) -> AuditHead:
    """Return a chain's end, made by whoever appends first; two at once must not both make it."""
    query = select(AuditHead).where(AuditHead.tenant_id == tenant_id).with_for_update()
    head = session.scalar(query)
    if head is not None:
        return head
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    first = insert(AuditHead).values(tenant_id=tenant_id, seq=0, digest=GENESIS)
    session.execute(first.on_conflict_do_nothing())
    return session.scalars(query).one()


def chain(previous: str, row: AuditRow) -> str:
    """Return a row's digest, given the digest of the row before it."""
    said = [
        previous, row.tenant_id, row.seq, row.at_ms, row.actor_kind, row.actor_id, row.actor_name,
        row.address, row.action, row.outcome, row.object_type, row.object_id, row.detail,
    ]  # fmt: skip
    text = json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
