"""Routes of one's own account: password, authenticator app.

Rules: whoever holds a session alone changes neither: the present password is asked for again, and
wrong ones are counted as at a log-in. A secret counts once a code of it was shown.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.audit import service as audit
from hub.authorize import Principal
from hub.errors import BadRequestError, ConflictError
from hub.operators import service, totp
from hub.operators.fields import Code, NewPassword, Password
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/me", tags=["people"])


class PasswordChange(BaseModel):
    """The present password, and the next one."""

    password: Password
    new_password: NewPassword


class Confirmed(BaseModel):
    """The present password."""

    password: Password


class TotpSecret(BaseModel):
    """What an authenticator app takes; it counts after `/me/totp/confirm`."""

    secret: str
    uri: str


class TotpCode(BaseModel):
    """A code of the app."""

    code: Code


@router.post("/password", status_code=204)
async def change_password(
    hub: TheHub, body: PasswordChange, caller: Caller = may("self.write")
) -> None:
    """Change one's own password; every other session ends."""
    await _confirm(hub, caller, body.password)
    kept = await hub.logins.hash_password(body.new_password)
    await hub.database.write(caller.tenant_id, _set_password, caller, kept)


@router.post("/totp")
async def begin_totp(
    hub: TheHub, body: Confirmed, caller: Caller = may("self.write")
) -> TotpSecret:
    """Make a secret for an authenticator app. One that counts already goes on counting."""
    await _confirm(hub, caller, body.password)
    secret = totp.new_secret()
    sealed = hub.keyring.seal(secret, f"user:{caller.id}")
    await hub.database.write(caller.tenant_id, _begin_totp, caller, sealed)
    return TotpSecret(secret=secret, uri=totp.uri(secret, caller.name))


@router.post("/totp/confirm", status_code=204)
async def confirm_totp(hub: TheHub, body: TotpCode, caller: Caller = may("self.write")) -> None:
    """Let the secret count: every log-in needs a code from now on."""
    await hub.database.write(caller.tenant_id, _confirm_totp, hub, caller, body.code)


@router.post("/totp/remove", status_code=204)
async def remove_totp(hub: TheHub, body: Confirmed, caller: Caller = may("self.write")) -> None:
    """Need no code any more."""
    await _confirm(hub, caller, body.password)
    await hub.database.write(caller.tenant_id, _remove_totp, caller)


async def _confirm(hub: Hub, caller: Principal, password: str) -> None:
    user = await hub.database.read(caller.tenant_id, service.get_user, caller.id)
    await hub.logins.confirm(user, password, caller.address)


def _set_password(session: Session, caller: Principal, kept: str) -> None:
    user = service.get_user(session, caller.id)
    service.set_password(session, user, kept, keep_login=caller.credential_id)
    _tell(session, caller, password=True)


def _begin_totp(session: Session, caller: Principal, sealed: str) -> None:
    service.get_user(session, caller.id).totp_pending_sealed = sealed
    _tell(session, caller, totp="begun")


def _confirm_totp(session: Session, hub: Hub, caller: Principal, code: str) -> None:
    user = service.get_user(session, caller.id)
    if user.totp_pending_sealed is None:
        raise ConflictError("begin first: POST /api/v1/me/totp", code="no_totp")
    secret = hub.keyring.unseal(user.totp_pending_sealed, f"user:{user.id}")
    if not totp.use(session, user, secret, code):
        raise BadRequestError("wrong or used one-time code", code="bad_code")
    user.totp_sealed, user.totp_pending_sealed = user.totp_pending_sealed, None
    _tell(session, caller, totp="confirmed")


def _remove_totp(session: Session, caller: Principal) -> None:
    user = service.get_user(session, caller.id)
    user.totp_sealed = user.totp_pending_sealed = None
    _tell(session, caller, totp="removed")


def _tell(session: Session, caller: Principal, **detail: Any) -> None:
    of = ("user", caller.id)
    audit.record(session, caller.tenant_id, caller, "self.write", of=of, **detail)
