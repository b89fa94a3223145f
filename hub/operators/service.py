"""Tenants and users: made, found, changed, disabled.

Rules: names are unique over all tenants, because a log-in names no tenant; nobody raises a role
above their own; passwords come in hashed (hub.operators.passwords).
"""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.authorize import Role
from hub.clock import now_ms
from hub.errors import BadRequestError, ConflictError
from hub.ids import new_id
from hub.operators.models import Tenant, User

NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)
DEFAULT_TENANT = "default"


def add_tenant(session: Session, name: str) -> Tenant:
    """Make a tenant.

    Raises:
        BadRequestError: no such name may be; ConflictError: it is taken.
    """
    _check_name("tenant", name)
    if session.scalar(select(Tenant).where(Tenant.name == name)) is not None:
        raise ConflictError(f"there is a tenant `{name}` already")
    tenant = Tenant(id=new_id(), name=name, created_ms=now_ms())
    session.add(tenant)
    session.flush()
    return tenant


def find_tenant(session: Session, name: str) -> Tenant | None:
    """Return the tenant of that name."""
    return session.scalar(select(Tenant).where(Tenant.name == name))


def add_user(
    session: Session, tenant_id: str, name: str, role: Role, password_hash: str | None
) -> User:
    """Make a user.

    Raises:
        BadRequestError: no such name may be; ConflictError: it is taken.
    """
    _check_name("user", name)
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
    """Return the user of that name."""
    return session.scalar(select(User).where(User.name == name))


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise BadRequestError(f"{what} name: 1 to 64 of letters, digits, `.`, `_`, `@`, `-`")
