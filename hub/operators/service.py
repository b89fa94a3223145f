"""Tenants and users: made, found, changed, disabled.

Rules: names are unique over all tenants, because a log-in names no tenant; nobody gives a role
above their own or touches somebody above themselves; the last system_admin stays; passwords come
in hashed (hub.operators.passwords). A changed password, role or state ends or narrows what the user
has: sessions at once, sockets within a second (hub.sockets.console looks), waiting jobs with it.
A deleted tenant keeps its rows, for the audit; its name becomes free.
"""

from __future__ import annotations

import re

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub.authorize import RANK, Principal, Role
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from hub.ids import new_id
from hub.operators.models import Login, Tenant, User

NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)
DEFAULT_TENANT = "default"


def add_tenant(session: Session, name: str) -> Tenant:
    """Make a tenant.

    Raises:
        BadRequestError: no such name may be; ConflictError: it is taken.
    """
    check_name("tenant", name)
    if session.scalar(select(Tenant).where(Tenant.name == name)) is not None:
        raise ConflictError(f"there is a tenant `{name}` already")
    tenant = Tenant(id=new_id(), name=name, created_ms=now_ms())
    session.add(tenant)
    session.flush()
    return tenant


def find_tenant(session: Session, name: str) -> Tenant | None:
    """Return the tenant of that name."""
    return session.scalar(select(Tenant).where(Tenant.name == name, Tenant.deleted_ms.is_(None)))


def get_tenant(session: Session, tenant_id: str) -> Tenant:
    """Return a tenant that the session may see.

    Raises:
        NotFoundError: there is none.
    """
    scope = session.info.get("tenant")
    tenant = session.get(Tenant, tenant_id)
    if tenant is None or tenant.deleted_ms is not None or scope not in (None, tenant.id):
        raise NotFoundError
    return tenant


def rename_tenant(session: Session, tenant: Tenant, name: str) -> None:
    """Give a tenant another name.

    Raises:
        BadRequestError: no such name may be; ConflictError: it is taken.
    """
    check_name("tenant", name)
    found = session.scalar(select(Tenant).where(Tenant.name == name))
    if found is not None and found.id != tenant.id:
        raise ConflictError(f"there is a tenant `{name}` already")
    tenant.name = name


def disable_tenant(tenant: Tenant, *, is_disabled: bool) -> None:
    """Turn a tenant off or on: its people and its agents with it."""
    if is_disabled != (tenant.disabled_ms is not None):
        tenant.disabled_ms = now_ms() if is_disabled else None


def delete_tenant(tenant: Tenant) -> None:
    """Take a tenant away for good; its rows stay and belong to nobody who could log in."""
    disable_tenant(tenant, is_disabled=True)
    tenant.deleted_ms = now_ms()
    tenant.name = f"deleted {tenant.id}"


def add_user(
    session: Session, tenant_id: str, name: str, role: Role, password_hash: str | None
) -> User:
    """Make a user, in the system's scope: the name must be free in every tenant.

    Raises:
        BadRequestError: no such name may be; ConflictError: it is taken.
    """
    check_name("user", name)
    if find_user(session, name) is not None:
        raise ConflictError(f"the name `{name}` is taken")
    user = User(
        id=new_id(),
        tenant_id=tenant_id,
        name=name,
        role=role,
        password_hash=password_hash,
        created_ms=now_ms(),
    )
    session.add(user)
    session.flush()
    return user


def find_user(session: Session, name: str) -> User | None:
    """Return the user of that name, of those that the session sees."""
    return session.scalar(select(User).where(User.name == name))


def get_user(session: Session, user_id: str) -> User:
    """Return a user that the session sees.

    Raises:
        NotFoundError: there is none.
    """
    user = session.get(User, user_id)
    if user is None:
        raise NotFoundError
    return user


def check_rank(who: Principal, role: str) -> None:
    """Refuse to give, or to touch, a role above one's own.

    Raises:
        ForbiddenError: `role_too_high`.
    """
    if who.kind == "system":
        return
    if who.role is None or RANK[Role(role)] > RANK[who.role]:
        raise ForbiddenError(f"{role} is above your own role", code="role_too_high")


def change_role(session: Session, user: User, role: Role) -> None:
    """Give a user another role; what they have in hand counts for it at once.

    Raises:
        ConflictError: it is the last system_admin.
    """
    if role is not Role.SYSTEM_ADMIN:
        _keep_one_admin(session, user)
    user.role = role


def disable_user(session: Session, user: User, *, is_disabled: bool) -> None:
    """Turn a user off or on.

    Raises:
        ConflictError: it is the last system_admin.
    """
    if not is_disabled:
        user.disabled_ms = None
    elif user.disabled_ms is None:
        _keep_one_admin(session, user)
        user.disabled_ms = now_ms()
        end_logins(session, user)


def delete_user(session: Session, user: User) -> None:
    """Take a user away, logins too; what they did stays in the audit by name.

    Raises:
        ConflictError: it is the last system_admin.
    """
    _keep_one_admin(session, user)
    session.delete(user)
    session.flush()


def set_password(
    session: Session, user: User, password_hash: str, keep_login: str | None = None
) -> None:
    """Change a password; every session but `keep_login` ends, API tokens stay."""
    user.password_hash = password_hash
    end_logins(session, user, kind="session", keep_login=keep_login)


def end_logins(
    session: Session, user: User, *, kind: str | None = None, keep_login: str | None = None
) -> int:
    """Revoke what a user is logged in by; returns how many."""
    query = update(Login).where(Login.user_id == user.id, Login.revoked_ms.is_(None))
    if kind is not None:
        query = query.where(Login.kind == kind)
    if keep_login is not None:
        query = query.where(Login.id != keep_login)
    return affected(session, query.values(revoked_ms=now_ms()))


def check_name(what: str, name: str) -> None:
    """Refuse a name that is none.

    Raises:
        BadRequestError: with what may be.
    """
    if not NAME.fullmatch(name):
        raise BadRequestError(f"{what} name: 1 to 64 of letters, digits, `.`, `_`, `@`, `-`")


def _keep_one_admin(session: Session, user: User) -> None:
    if user.role != Role.SYSTEM_ADMIN or user.disabled_ms is not None:
        return
    others = select(func.count()).select_from(User)
    others = others.where(User.role == Role.SYSTEM_ADMIN, User.disabled_ms.is_(None))
    if session.scalar(others.where(User.id != user.id)) == 0:
        raise ConflictError("the last system_admin stays", code="last_admin")
