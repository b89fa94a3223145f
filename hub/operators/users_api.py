"""Routes of users: listed, made, changed, disabled, deleted.

Rules: a tenant's users alone, save for a system_admin; nobody gives or touches a role above their
own; a user's row is told without anything secret.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import pages
from hub.audit import service as audit
from hub.authorize import Principal, Role
from hub.clock import iso, iso_or_none
from hub.errors import NotFoundError
from hub.operators import service
from hub.operators.fields import AccountName, NewPassword, Search
from hub.operators.models import User
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/users", tags=["people"])


class UserView(BaseModel):
    """A user."""

    id: str
    name: str
    role: str
    tenant_id: str
    has_totp: bool
    has_password: bool
    created_at: str
    disabled_at: str | None


class NewUser(BaseModel):
    """A user to make; without a password they cannot log in. `tenant_id`: for a system_admin."""

    name: AccountName
    role: Role
    password: NewPassword | None = None
    tenant_id: str | None = None


class UserChange(BaseModel):
    """What of a user to change; what is absent stays. `reset_totp`: for a lost authenticator."""

    role: Role | None = None
    password: NewPassword | None = None
    disabled: bool | None = None
    reset_totp: bool = False


@router.get("")
async def list_users(
    hub: TheHub,
    q: Annotated[Search | None, Query(description="a part of the name")] = None,
    role: Role | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("users.read"),
) -> Page[UserView]:
    """List users by name."""
    query = select(User)
    if q is not None:
        query = query.where(User.name.contains(q, autoescape=True))
    if role is not None:
        query = query.where(User.role == role)
    rows, after = await hub.database.read(
        caller.scope, pages.fetch, query, (User.name, User.id), limit, cursor
    )
    return Page(items=[view(user) for user in rows], next=after)


@router.post("", status_code=201)
async def add_user(hub: TheHub, body: NewUser, caller: Caller = may("users.write")) -> UserView:
    """Make a user."""
    service.check_rank(caller, body.role)
    tenant_id = body.tenant_id or caller.tenant_id
    if caller.scope not in (None, tenant_id):
        raise NotFoundError
    kept = await hub.logins.hash_password(body.password) if body.password else None
    return view(await hub.database.write(None, _add, caller, tenant_id, body, kept))


@router.get("/{user_id}")
async def get_user(hub: TheHub, user_id: str, caller: Caller = may("users.read")) -> UserView:
    """Tell one user."""
    return view(await hub.database.read(caller.scope, service.get_user, user_id))


@router.patch("/{user_id}")
async def change_user(
    hub: TheHub, user_id: str, body: UserChange, caller: Caller = may("users.write")
) -> UserView:
    """Change a user. Sessions end with a changed password, everything with a disabled user."""
    kept = await hub.logins.hash_password(body.password) if body.password else None
    return view(await hub.database.write(caller.scope, _change, caller, user_id, body, kept))


@router.delete("/{user_id}", status_code=204)
async def delete_user(hub: TheHub, user_id: str, caller: Caller = may("users.write")) -> None:
    """Delete a user and everything they are logged in by."""
    await hub.database.write(caller.scope, _delete, caller, user_id)


@router.delete("/{user_id}/logins", status_code=204)
async def end_logins(hub: TheHub, user_id: str, caller: Caller = may("users.write")) -> None:
    """End every session and API token of a user."""
    await hub.database.write(caller.scope, _end_logins, caller, user_id)


def view(user: User) -> UserView:
    """Tell of a user what others may know."""
    return UserView(
        id=user.id,
        name=user.name,
        role=user.role,
        tenant_id=user.tenant_id,
        has_totp=user.totp_sealed is not None,
        has_password=user.password_hash is not None,
        created_at=iso(user.created_ms),
        disabled_at=iso_or_none(user.disabled_ms),
    )


def _add(
    session: Session, caller: Principal, tenant_id: str, body: NewUser, kept: str | None
) -> User:
    service.get_tenant(session, tenant_id)
    user = service.add_user(session, tenant_id, body.name, body.role, kept)
    _tell(session, caller, user, made=True, role=body.role)
    return user


def _change(
    session: Session, caller: Principal, user_id: str, body: UserChange, kept: str | None
) -> User:
    user = _touchable(session, caller, user_id)
    if body.role is not None:
        service.check_rank(caller, body.role)
        service.change_role(session, user, body.role)
    if body.disabled is not None:
        service.disable_user(session, user, is_disabled=body.disabled)
    if kept is not None:
        service.set_password(session, user, kept)
    if body.reset_totp:
        user.totp_sealed = user.totp_pending_sealed = None
    _tell(
        session,
        caller,
        user,
        role=body.role,
        disabled=body.disabled,
        password=kept is not None,
        reset_totp=body.reset_totp,
    )
    return user


def _delete(session: Session, caller: Principal, user_id: str) -> None:
    user = _touchable(session, caller, user_id)
    _tell(session, caller, user, deleted=True)
    service.delete_user(session, user)


def _end_logins(session: Session, caller: Principal, user_id: str) -> None:
    user = _touchable(session, caller, user_id)
    _tell(session, caller, user, logins_ended=service.end_logins(session, user))


def _touchable(session: Session, caller: Principal, user_id: str) -> User:
    user = service.get_user(session, user_id)
    service.check_rank(caller, user.role)
    return user


def _tell(session: Session, caller: Principal, user: User, **detail: Any) -> None:
    said = {name: value for name, value in detail.items() if value not in (None, False)}
    audit.record(
        session,
        user.tenant_id,
        caller,
        "users.write",
        of=("user", user.id),
        name=user.name,
        **said,
    )
