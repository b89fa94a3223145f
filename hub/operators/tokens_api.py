"""Routes of API tokens and of one's own log-ins.

Rules: a token's text leaves once, when it is made; its role is at most that of whoever makes it,
and what counts later is the lesser of it and the user's; a token that a token makes lives no longer
than its maker. One's own are seen and ended by anybody; a user's by an admin of the tenant.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from hub import pages
from hub.audit import service as audit
from hub.authorize import ACTIONS, Principal, Role
from hub.clock import iso, iso_or_none, now_ms
from hub.errors import NotFoundError
from hub.operators import credentials, service
from hub.operators.fields import Label
from hub.operators.models import Login, User
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1", tags=["people"])

DAY_MS = 24 * 3600 * 1000
Days = Annotated[int, Field(ge=1, le=3650)]


class LoginView(BaseModel):
    """A session or an API token, without its text."""

    id: str
    kind: str
    label: str
    role: str
    user_id: str
    created_at: str
    used_at: str | None
    expires_at: str | None
    is_current: bool


class NewToken(BaseModel):
    """An API token to make. `role`: the caller's own where it is absent. No days: until revoked."""

    label: Label
    role: Role | None = None
    expires_in_days: Days | None = 90


class TokenMade(LoginView):
    """A new token. `token` is shown this once."""

    token: str


@router.get("/tokens")
async def list_tokens(
    hub: TheHub,
    everybodys: bool = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("tokens.read"),
) -> Page[LoginView]:
    """List one's own API tokens; an admin may list `everybodys`."""
    query = select(Login).where(Login.kind == "token")
    if not (everybodys and _is_admin(caller)):
        query = query.where(Login.user_id == caller.id)
    return await _listed(hub, caller, query, limit, cursor)


@router.post("/tokens", status_code=201)
async def add_token(hub: TheHub, body: NewToken, caller: Caller = may("tokens.write")) -> TokenMade:
    """Make an API token for oneself."""
    role = body.role or caller.role or Role.AUDITOR
    service.check_rank(caller, role)
    login, text = await hub.database.write(caller.tenant_id, _add, caller, body, role)
    return TokenMade(**view(login, caller).model_dump(), token=text)


@router.delete("/tokens/{token_id}", status_code=204)
async def revoke_token(hub: TheHub, token_id: str, caller: Caller = may("tokens.write")) -> None:
    """Revoke an API token: one's own, or as an admin anybody's of the tenant."""
    query = select(Login).where(Login.kind == "token")
    if not _is_admin(caller):
        query = query.where(Login.user_id == caller.id)
    await hub.database.write(caller.scope, _revoke, caller, query, token_id, "tokens.write")


@router.get("/logins")
async def list_logins(
    hub: TheHub, limit: Limit = 50, cursor: Cursor = None, caller: Caller = may("self.read")
) -> Page[LoginView]:
    """List one's own sessions and API tokens that are still good."""
    query = select(Login).where(Login.user_id == caller.id)
    return await _listed(hub, caller, query, limit, cursor)


@router.delete("/logins/{login_id}", status_code=204)
async def end_login(hub: TheHub, login_id: str, caller: Caller = may("self.write")) -> None:
    """End one of one's own sessions or API tokens."""
    query = select(Login).where(Login.user_id == caller.id)
    await hub.database.write(caller.tenant_id, _revoke, caller, query, login_id, "self.write")


def view(login: Login, caller: Principal) -> LoginView:
    """Tell a login without its text."""
    return LoginView(
        id=login.id,
        kind=login.kind,
        label=login.label,
        role=login.role,
        user_id=login.user_id,
        created_at=iso(login.created_ms),
        used_at=iso_or_none(login.used_ms),
        expires_at=iso_or_none(login.expires_ms),
        is_current=login.id == caller.credential_id,
    )


async def _listed(
    hub: TheHub, caller: Principal, query: Select[Login], limit: int, cursor: str | None
) -> Page[LoginView]:
    still = or_(Login.expires_ms.is_(None), Login.expires_ms > now_ms())
    query = query.where(Login.revoked_ms.is_(None), still)
    rows, after = await hub.database.read(
        caller.scope, pages.fetch, query, (Login.id,), limit, cursor, descending=True
    )
    return Page(items=[view(login, caller) for login in rows], next=after)


def _add(session: Session, caller: Principal, body: NewToken, role: Role) -> tuple[Login, str]:
    user = session.get_one(User, caller.id)
    ttl_ms = None if body.expires_in_days is None else body.expires_in_days * DAY_MS
    maker = session.get_one(Login, caller.credential_id)
    login, text = credentials.issue(
        session,
        user,
        "token",
        role=role,
        label=body.label,
        ttl_ms=ttl_ms,
        until_ms=maker.expires_ms if maker.kind == "token" else None,
    )
    of = ("login", login.id)
    audit.record(
        session, caller.tenant_id, caller, "tokens.write", of=of, label=body.label, role=role
    )
    return login, text


def _revoke(
    session: Session, caller: Principal, query: Select[Login], login_id: str, action: str
) -> None:
    login = session.scalar(query.where(Login.id == login_id))
    if login is None or not credentials.revoke(session, login.id):
        raise NotFoundError
    of = ("login", login.id)
    audit.record(session, login.tenant_id, caller, action, of=of, revoked=True)


def _is_admin(caller: Principal) -> bool:
    return caller.role in ACTIONS["users.write"]
