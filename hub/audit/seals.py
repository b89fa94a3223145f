"""Heads of the audit chains, signed; and how old rows leave.

Rules: once an hour each chain that has grown gets a seal: sequence, digest and time, signed with
the keyring's Ed25519 key, so that whoever has the database without the keyring cannot rewrite what
is sealed. Rows leave only up to a seal, in the order of their sequence, at most PRUNED_AT_ONCE
seals an hour: a clock that leaps a century ahead costs two hours of the oldest rows an hour until
it is mended, not the log. What left is told by a row of the chain itself.
Source: fault cases J.
"""

from __future__ import annotations

import asyncio

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.audit import service
from hub.audit.models import AuditHead, AuditRow, AuditSeal
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import HubError
from hub.ids import new_id
from hub.keyring import Keyring

EVERY_S = 3600
DAY_MS = 24 * 3600 * 1000
PRUNED_AT_ONCE = 2
PRUNED = "audit.pruned"


async def keep_sealing(database: Database, keyring: Keyring, days: int) -> None:
    """Seal and prune once an hour, for as long as the hub runs."""
    while True:
        try:
            await database.write(None, seal_heads, keyring)
            await database.write(None, prune, now_ms() - days * DAY_MS)
        except HubError:  # the database does not answer: an hour later it will
            pass
        await asyncio.sleep(EVERY_S)


def seal_heads(session: Session, keyring: Keyring) -> int:
    """Seal every chain that has grown since its last seal; returns how many."""
    made = 0
    for head in session.scalars(select(AuditHead)):
        newest = newest_seal(session, head.tenant_id)
        if newest is None or newest.seq < head.seq:
            session.add(sign(head, keyring))
            made += 1
    session.flush()
    return made


def newest_seal(session: Session, tenant_id: str) -> AuditSeal | None:
    """Return a chain's last seal."""
    query = select(AuditSeal).where(AuditSeal.tenant_id == tenant_id)
    return session.scalar(query.order_by(AuditSeal.seq.desc()).limit(1))


def sign(head: AuditHead, keyring: Keyring) -> AuditSeal:
    """Return a seal of a head."""
    seal = AuditSeal(
        id=new_id(),
        tenant_id=head.tenant_id,
        seq=head.seq,
        digest=head.digest,
        at_ms=now_ms(),
        signature="",
    )
    seal.signature = keyring.signer.sign(said(seal)).hex()
    return seal


def is_signed(seal: AuditSeal, key: Ed25519PublicKey) -> bool:
    """Tell whether a seal is the keyring's."""
    try:
        key.verify(bytes.fromhex(seal.signature), said(seal))
    except (InvalidSignature, ValueError):
        return False
    return True


def said(seal: AuditSeal) -> bytes:
    """Return the bytes that are signed."""
    fields = (seal.tenant_id, seal.seq, seal.digest, seal.at_ms)
    return "\n".join(["jackline audit seal v1", *map(str, fields), ""]).encode()


def prune(session: Session, before_ms: int) -> int:
    """Let rows leave that were sealed before a time; returns how many."""
    left = 0
    for tenant_id in session.scalars(select(AuditHead.tenant_id)):
        old = select(AuditSeal).where(AuditSeal.tenant_id == tenant_id, AuditSeal.at_ms < before_ms)
        seals = session.scalars(old.order_by(AuditSeal.seq).limit(PRUNED_AT_ONCE + 1)).all()
        if len(seals) > 1:  # the last of them stays: the chain goes on from it
            left += _leave(session, tenant_id, seals[-1])
    return left


def _leave(session: Session, tenant_id: str, last: AuditSeal) -> int:
    """Let everything up to a seal leave, the seals before it too."""
    rows = delete(AuditRow).where(AuditRow.tenant_id == tenant_id, AuditRow.seq <= last.seq)
    gone = session.execute(rows.returning(AuditRow.seq)).all()
    older = delete(AuditSeal).where(AuditSeal.tenant_id == tenant_id, AuditSeal.seq < last.seq)
    session.execute(older)
    if gone:
        service.record(session, tenant_id, service.SYSTEM, PRUNED, upto=last.seq, count=len(gone))
    return len(gone)
