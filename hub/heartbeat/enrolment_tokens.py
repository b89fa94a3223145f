"""Enrolment tokens: made, listed, revoked, burnt.

Rules: the text leaves once, when it is made; burning is one conditional UPDATE whose rowcount
decides, whatever was read before.
Source: contract part 2; fault cases A (tokens).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import BadRequestError, NotFoundError
from hub.heartbeat.models import EnrolmentToken
from hub.ids import new_id
from wire import enroltoken

DEFAULT_TTL_S = 24 * 3600
MAX_TTL_S = 366 * 24 * 3600
MAX_USES = 100_000
MAX_TAGS = 32
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """What a token shall allow."""

    uses: int = 1
    ttl_s: int = DEFAULT_TTL_S
    tags: Sequence[str] = ()
    needs_approval: bool = False
    label: str = ""


def make(
    session: Session, who: Principal, tenant_id: str, wanted: Wanted
) -> tuple[EnrolmentToken, str]:
    """Make a token.

    Returns:
        the row, and the plain form of the token.

    Raises:
        BadRequestError: uses, life or tags are out of bounds.
    """
    _check(wanted)
    text = enroltoken.make(secrets.token_bytes(enroltoken.RANDOM_BYTES))
    row = EnrolmentToken(
        id=new_id(),
        tenant_id=tenant_id,
        digest=enroltoken.digest(text),
        label=wanted.label[:128],
        tags=sorted(set(wanted.tags)),
        needs_approval=wanted.needs_approval,
        uses=0,
        uses_max=wanted.uses,
        created_by=who.name,
        created_ms=now_ms(),
        expires_ms=now_ms() + wanted.ttl_s * 1000,
    )
    session.add(row)
    audit.record(
        session,
        tenant_id,
        who,
        "enrolment.write",
        of=("enrolment_token", row.id),
        uses=row.uses_max,
        tags=row.tags,
        needs_approval=row.needs_approval,
    )
    return row, text


def revoke(session: Session, who: Principal, token_id: str) -> None:
    """Make a token worthless.

    Raises:
        NotFoundError: there is no such token, or it is revoked already.
    """
    token = session.scalar(select(EnrolmentToken).where(EnrolmentToken.id == token_id))
    if token is None or token.revoked_ms is not None:
        raise NotFoundError("there is no such enrolment token")
    token.revoked_ms = now_ms()
    of = ("enrolment_token", token.id)
    audit.record(session, token.tenant_id, who, "enrolment.write", of=of, revoked=True)


def find(session: Session, text: str) -> EnrolmentToken | None:
    """Return the token that a text is, good or not; others who want it wait until we are done."""
    digest = enroltoken.digest(text)
    query = select(EnrolmentToken).where(EnrolmentToken.digest == digest)
    return session.scalar(query.with_for_update())


def burn(session: Session, token_id: str, at_ms: int) -> bool:
    """Use a token once; False: it was used up, expired or revoked before."""
    spent = (
        update(EnrolmentToken)
        .where(
            EnrolmentToken.id == token_id,
            EnrolmentToken.uses < EnrolmentToken.uses_max,
            EnrolmentToken.expires_ms > at_ms,
            EnrolmentToken.revoked_ms.is_(None),
        )
        .values(uses=EnrolmentToken.uses + 1)
    )
    return affected(session, spent) == 1


def _check(wanted: Wanted) -> None:
    if not 1 <= wanted.uses <= MAX_USES:
        raise BadRequestError(f"uses: 1 to {MAX_USES}")
    if not 1 <= wanted.ttl_s <= MAX_TTL_S:
        raise BadRequestError("expires: a second to 366 days")
    if len(wanted.tags) > MAX_TAGS or not all(TAG.fullmatch(tag) for tag in wanted.tags):
        raise BadRequestError(
            f"tags: at most {MAX_TAGS}, each 1 to 64 of letters, digits, and `._:/=-` inside"
        )
