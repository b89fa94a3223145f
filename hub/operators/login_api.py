"""Routes of a log-in: begin a session, end it, see who one is.

Rules: a session's text leaves once: in the body for a program, in a cookie (HttpOnly, SameSite
strict, Secure over TLS) for a browser, never in both.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.authorize import ACTIONS
from hub.clock import iso_or_none
from hub.errors import ConflictError
from hub.operators import credentials
from hub.operators.fields import AccountName, Code, Label, Password
from hub.operators.logins import Attempt
from hub.operators.models import Login, Tenant, User
from hub.requests import Caller, TheHub, address_of, check_origin, may, public

router = APIRouter(prefix="/api/v1", tags=["people"])


class NewSession(BaseModel):
    """A log-in. `cookie`: the session goes into a cookie instead of the body."""

    user: AccountName
    password: Password
    totp: Code | None = None
    label: Label = ""
    cookie: bool = False


class SessionMade(BaseModel):
    """A session. `token` is absent when it went into a cookie."""

    id: str
    token: str | None
    expires_at: str | None
    user: str
    role: str
    tenant_id: str


class Me(BaseModel):
    """Who the caller is, and what they may do."""

    user_id: str
    user: str
    role: str
    tenant_id: str
    tenant: str
    login_id: str | None
    login_kind: str
    expires_at: str | None
    has_totp: bool
    actions: list[str]


@router.post("/sessions", status_code=201, dependencies=[public()])
async def log_in(
    hub: TheHub, request: Request, response: Response, body: NewSession
) -> SessionMade:
    """Log in with a password, and a one-time code where the account has one."""
    if body.cookie:
        check_origin(hub, request)
    done = await hub.logins.log_in(
        Attempt(body.user, body.password, body.totp, body.label, address_of(request))
    )
    if body.cookie:
        set_cookie(response, done.text, is_secure=request.url.scheme == "https")
    return SessionMade(
        id=done.login.id,
        token=None if body.cookie else done.text,
        expires_at=iso_or_none(done.login.expires_ms),
        user=done.user.name,
        role=done.user.role,
        tenant_id=done.user.tenant_id,
    )


@router.delete("/sessions/current", status_code=204)
async def log_out(hub: TheHub, response: Response, caller: Caller = may("self.read")) -> None:
    """End the session, or the API token, that this request was made with."""
    if not await hub.database.write(caller.tenant_id, end_own, caller):
        raise ConflictError("it has ended already")
    response.delete_cookie(credentials.COOKIE, path="/")


@router.get("/me")
async def me(hub: TheHub, caller: Caller = may("self.read")) -> Me:
    """Tell who the caller is."""
    return await hub.database.read(caller.tenant_id, _me, caller)


def set_cookie(response: Response, text: str, *, is_secure: bool) -> None:
    """Hand a session to a browser."""
    response.set_cookie(
        credentials.COOKIE,
        text,
        max_age=credentials.SESSION_TTL_MS // 1000,
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="strict",
    )


def end_own(session: Session, caller: Caller) -> bool:
    """End what the caller is logged in by; tell whether it was still good."""
    login_id = caller.credential_id or ""
    if not credentials.revoke(session, login_id):
        return False
    audit.record(session, caller.tenant_id, caller, "logout", of=("login", login_id))
    return True


def _me(session: Session, caller: Caller) -> Me:
    user = session.get_one(User, caller.id)
    tenant = session.get_one(Tenant, caller.tenant_id)
    login = session.get_one(Login, caller.credential_id)
    return Me(
        user_id=user.id,
        user=user.name,
        role=caller.role or "",
        tenant_id=tenant.id,
        tenant=tenant.name,
        login_id=login.id,
        login_kind=login.kind,
        expires_at=iso_or_none(login.expires_ms),
        has_totp=user.totp_sealed is not None,
        actions=sorted(action for action, roles in ACTIONS.items() if caller.role in roles),
    )
