"""Codes that a person approves elsewhere: for the command line a session, for an agent enrolment.

Rules: a user code is 8 of 20 consonants (20^8 spaces, no word, no vowel), the device's own secret
256 bits; only its SHA-256 is kept. Polling sooner than `interval_s` adds five seconds, whatever the
state; a code is approved, denied and used by one conditional UPDATE each. Who approves is asked for
the tenant that the code named. An agent's code never yields a token: `burn` is enrolment's.
Source: RFC 8628; fault cases A.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from hub import tokens
from hub.audit import service as audit
from hub.authorize import Principal, Role
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from hub.ids import new_id
from hub.operators import credentials
from hub.operators.models import DeviceCode, Login, Tenant, User
from wire.enrolment import DeviceCodeRequest
from wire.problem import Code

PREFIX = "jld"
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
CHARS = 8
TTL_MS = 15 * 60 * 1000
KEPT_MS = 24 * 3600 * 1000
INTERVAL_S = 5
SLOWER_S = 5


class Yield(NamedTuple):
    """What an approved code of the command line brings."""

    user: User
    tenant: Tenant
    login: Login
    text: str


def make(session: Session, asked: DeviceCodeRequest, address: str | None) -> tuple[DeviceCode, str]:
    """Make a code.

    Returns:
        the row, and the device's secret.
    """
    session.execute(delete(DeviceCode).where(DeviceCode.expires_ms < now_ms() - KEPT_MS))
    text = tokens.make(PREFIX)
    row = DeviceCode(
        id=new_id(),
        digest=tokens.digest(text),
        user_code="".join(secrets.choice(ALPHABET) for _ in range(CHARS)),
        client_id=asked.client_id,
        tenant_name=asked.tenant,
        key_thumbprint=asked.key_thumbprint,
        hostname=asked.hostname,
        platform=asked.platform,
        address=address,
        state="pending",
        interval_s=INTERVAL_S,
        created_ms=now_ms(),
        expires_ms=now_ms() + TTL_MS,
    )
    session.add(row)
    session.flush()
    return row, text


def shown(row: DeviceCode) -> str:
    """Write a user code as people read it: `BCDF-GHJK`."""
    return f"{row.user_code[:4]}-{row.user_code[4:]}"


def find(session: Session, user_code: str) -> DeviceCode:
    """Return the code that a person typed, if it still waits.

    Raises:
        NotFoundError: it is wrong, has expired, or is decided.
    """
    text = "".join(c for c in user_code.upper() if c.isalnum())
    row = session.scalar(
        select(DeviceCode).where(
            DeviceCode.user_code == text,
            DeviceCode.state == "pending",
            DeviceCode.expires_ms > now_ms(),
        )
    )
    if row is None:
        raise NotFoundError
    return row


def decide(session: Session, who: Principal, row: DeviceCode, *, is_approved: bool) -> None:
    """Approve or deny a code in the caller's own name and tenant.

    Raises:
        ForbiddenError: `other_tenant`; ConflictError: somebody else was first.
    """
    if row.tenant_name is not None:
        tenant = session.get_one(Tenant, who.tenant_id)
        if tenant.name != row.tenant_name:
            raise ForbiddenError("the code asks for another tenant", code="other_tenant")
    change = update(DeviceCode).where(DeviceCode.id == row.id, DeviceCode.state == "pending")
    decided = affected(
        session,
        change.values(
            state="approved" if is_approved else "denied",
            approved_ms=now_ms(),
            approved_by=who.id,
            approved_role=who.role,
            tenant_id=who.tenant_id,
        ),
    )
    if decided != 1:
        raise ConflictError("that code is decided already")
    audit.record(
        session,
        who.tenant_id,
        who,
        "device.approve",
        "ok" if is_approved else "denied",
        of=("device_code", row.id),
        client_id=row.client_id,
        hostname=row.hostname,
        address=row.address,
        key_thumbprint=row.key_thumbprint,
    )


def poll(session: Session, text: str, client_id: str) -> DeviceCode | BadRequestError:
    """Ask how a code stands. A refusal is returned, so that what it counted is saved.

    Returns:
        the approved row, or RFC 8628's refusal.
    """
    row = session.scalar(select(DeviceCode).where(DeviceCode.digest == tokens.digest(text)))
    if row is None or not tokens.is_token(PREFIX, text):
        return refusal(Code.INVALID_GRANT)
    if row.client_id != client_id:
        return refusal(Code.INVALID_CLIENT)
    if not _is_in_time(session, row):
        return refusal(Code.SLOW_DOWN, interval=row.interval_s + SLOWER_S)
    if row.expires_ms <= now_ms():
        return refusal(Code.EXPIRED_TOKEN)
    if row.state == "approved":
        return row
    if row.state == "pending":
        return refusal(Code.AUTHORIZATION_PENDING)
    return refusal(Code.ACCESS_DENIED if row.state == "denied" else Code.INVALID_GRANT)


def exchange(session: Session, row: DeviceCode, address: str | None) -> Yield:
    """Use an approved code of the command line up, for a session of whoever approved it.

    Raises:
        BadRequestError: another request was first, or the approver is gone.
    """
    user = session.get(User, row.approved_by)
    if user is None or user.disabled_ms is not None or not use(session, row):
        raise refusal(Code.INVALID_GRANT)
    label = f"cli on {row.hostname}" if row.hostname else "cli"
    role = Role(row.approved_role) if row.approved_role else None
    login, made = credentials.issue(session, user, "session", role=role, label=label[:128])
    who = Principal("user", user.id, user.name, user.tenant_id, Role(user.role), None, address)
    of = ("login", login.id)
    audit.record(session, user.tenant_id, who, "login", of=of, by="device", device_code=row.id)
    return Yield(user, session.get_one(Tenant, user.tenant_id), login, made)


def of_agent(session: Session, text: str) -> DeviceCode | None:
    """Return an agent's code whatever its state; others who want it wait until we are done."""
    query = select(DeviceCode).where(
        DeviceCode.digest == tokens.digest(text), DeviceCode.client_id == "agent"
    )
    return session.scalar(query.with_for_update())


def use(session: Session, row: DeviceCode) -> bool:
    """Use an approved code up; tell whether this was the first to."""
    change = update(DeviceCode).where(DeviceCode.id == row.id, DeviceCode.state == "approved")
    return affected(session, change.values(state="used")) == 1


def refusal(code: Code, **extra: Any) -> BadRequestError:
    """Return one of RFC 8628's refusals, which repeat their code as `error`."""
    return BadRequestError(code=code, error=str(code), **extra)


def _is_in_time(session: Session, row: DeviceCode) -> bool:
    now = now_ms()
    due = or_(
        DeviceCode.polled_ms.is_(None),
        DeviceCode.polled_ms <= now - DeviceCode.interval_s * 1000,
    )
    polled = update(DeviceCode).where(DeviceCode.id == row.id)
    if affected(session, polled.where(due).values(polled_ms=now)) == 1:
        return True
    slower = DeviceCode.interval_s + SLOWER_S
    affected(session, polled.values(polled_ms=now, interval_s=slower))
    return False
