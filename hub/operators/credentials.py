"""From what a request carries to a `Principal`: sessions and API tokens.

Rules: a token's text is looked up by its SHA-256 alone; a wrong checksum is never looked up.
Disabled users and tenants, revoked and expired logins are nobody. The role is the lesser of the
login's and the user's.
"""

from __future__ import annotations

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from hub import tokens
from hub.authorize import RANK, Principal, Role
from hub.clock import now_ms
from hub.db.rows import affected
from hub.ids import first_of, new_id
from hub.operators.models import Login, Tenant, User

SESSION_PREFIX = "jls"
TOKEN_PREFIX = "jlt"
SESSION_TTL_MS = 12 * 3600 * 1000
COOKIE = "jackline_session"
FORGOTTEN_AT_ONCE = 500


def find_principal(session: Session, text: str, address: str | None) -> Principal | None:
    """Return whose credential a text is, or None."""
    if not any(tokens.is_token(prefix, text) for prefix in (SESSION_PREFIX, TOKEN_PREFIX)):
        return None
    found = session.execute(
        select(Login, User)
        .join(User, User.id == Login.user_id)
        .join(Tenant, Tenant.id == User.tenant_id)
        .where(Login.digest == tokens.digest(text), Login.revoked_ms.is_(None))
        .where(User.disabled_ms.is_(None), Tenant.disabled_ms.is_(None))
    ).first()
    if found is None:
        return None
    login, user = found
    if login.expires_ms is not None and login.expires_ms <= now_ms():
        return None
    role = min(Role(login.role), Role(user.role), key=RANK.__getitem__)
    return Principal("user", user.id, user.name, user.tenant_id, role, login.id, address)


def roles(session: Session, login_ids: set[str]) -> dict[str, Role]:
    """Return what each log-in may be now; one that is no longer good is missing."""
    found = session.execute(
        select(Login.id, Login.role, User.role, Login.expires_ms)
        .join(User, User.id == Login.user_id)
        .join(Tenant, Tenant.id == User.tenant_id)
        .where(Login.id.in_(login_ids), Login.revoked_ms.is_(None))
        .where(User.disabled_ms.is_(None), Tenant.disabled_ms.is_(None))
    )
    return {
        login_id: min(Role(role), Role(user_role), key=RANK.__getitem__)
        for login_id, role, user_role, expires_ms in found
        if expires_ms is None or expires_ms > now_ms()
    }


def issue(
    session: Session,
    user: User,
    kind: str,
    *,
    role: Role | None = None,
    label: str = "",
    ttl_ms: int | None = SESSION_TTL_MS,
    until_ms: int | None = None,
) -> tuple[Login, str]:
    """Make a login for a user.

    Args:
        kind: `session` or `token`.
        role: the most it may do; default: the user's own.
        ttl_ms: None: until it is revoked.
        until_ms: the latest that it may end, whatever `ttl_ms` says.

    Returns:
        the row, and the text that is shown once.
    """
    ends = [end for end in (ttl_ms and now_ms() + ttl_ms, until_ms) if end is not None]
    text = tokens.make(SESSION_PREFIX if kind == "session" else TOKEN_PREFIX)
    login = Login(
        id=new_id(),
        tenant_id=user.tenant_id,
        user_id=user.id,
        kind=kind,
        label=label,
        role=role or user.role,
        digest=tokens.digest(text),
        created_ms=now_ms(),
        expires_ms=min(ends, default=None),
    )
    session.add(login)
    session.flush()
    return login, text


def forget(session: Session, before_ms: int) -> int:
    """Drop logins that were good no more before a time, a bounded number; return how many."""
    is_over = or_(Login.revoked_ms < before_ms, Login.expires_ms < before_ms)
    ids = select(Login.id).where(Login.id < first_of(before_ms), is_over)
    ids = ids.order_by(Login.id).limit(FORGOTTEN_AT_ONCE)
    return affected(session, delete(Login).where(Login.id.in_(ids)))


def revoke(session: Session, login_id: str) -> bool:
    """End a login; tell whether it was still good."""
    changed = (
        update(Login)
        .where(Login.id == login_id, Login.revoked_ms.is_(None))
        .values(revoked_ms=now_ms())
    )
    return affected(session, changed) == 1
