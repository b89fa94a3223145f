"""Logging in: a password, and a one-time code where the user has one.

Rules: an unknown name, a wrong password and a disabled account look and cost the same; a code's
step is used once; failures are counted by account and address, by address, and by account, and
audited in the user's tenant; hashing happens outside any unit of work, two at a time, since each
takes 64 MiB.
Source: fault cases B; RFC 6238, section 5.2.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.authorize import Principal, Role
from hub.db.database import Database
from hub.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from hub.keyring import Keyring
from hub.operators import credentials, passwords, totp
from hub.operators.models import Login, Tenant, User
from hub.throttle import Failures

AT_ONCE = 2
MAX_WAITING = 64


class Attempt(NamedTuple):
    """What somebody shows to log in."""

    name: str
    password: str
    code: str | None
    label: str
    address: str | None


class LoggedIn(NamedTuple):
    """A new session; `text` is shown once."""

    user: User
    login: Login
    text: str


class Logins:
    """The door for people with passwords."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._hashing = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._pairs = Failures(6, 60)
        self._addresses = Failures(20, 60)
        self._accounts = Failures(100, 3600)

    async def log_in(self, attempt: Attempt) -> LoggedIn:
        """Check a password and a code, and make a session.

        Raises:
            RateLimitedError: too many failures before this one.
            UnauthorizedError: `login_failed`, or `totp_required` when the password alone is right.
        """
        self._check(attempt)
        user = await self._database.read(None, _find, attempt.name)
        is_right = await self.is_password(user, attempt.password)
        if user is None or not is_right:
            await self._failed(attempt, user, "login_failed")
            raise UnauthorizedError("wrong name or password", code="login_failed")
        if user.totp_sealed is not None and not attempt.code:
            raise UnauthorizedError("a one-time code is needed, too", code="totp_required")
        done = await self._database.write(None, self._enter, user.id, attempt)
        if done is None:
            await self._failed(attempt, user, "totp_failed")
            raise UnauthorizedError("wrong or used one-time code", code="login_failed")
        self._pairs.forgive(_pair(attempt))
        return done

    async def confirm(self, user: User, password: str, address: str | None) -> None:
        """Ask somebody who is logged in for the password again.

        Raises:
            RateLimitedError: too many failures; ForbiddenError: `wrong_password`.
        """
        attempt = Attempt(user.name, password, None, "", address)
        self._check(attempt)
        if not await self.is_password(user, password):
            await self._failed(attempt, user, "wrong_password")
            raise ForbiddenError("that is not your password", code="wrong_password")

    async def is_password(self, user: User | None, password: str) -> bool:
        """Tell whether it is the user's password; takes as long for nobody.

        Raises:
            RateLimitedError: too many wait for it already.
        """
        if self._waiting >= MAX_WAITING:
            raise RateLimitedError("too many log in at once", retry_after_s=5)
        self._waiting += 1
        try:
            async with self._hashing:
                kept = user.password_hash if user else None
                return await asyncio.to_thread(passwords.is_password, kept, password)
        finally:
            self._waiting -= 1

    async def hash_password(self, password: str) -> str:
        """Return what is kept of a password."""
        async with self._hashing:
            return await asyncio.to_thread(passwords.hash_password, password)

    def _enter(self, session: Session, user_id: str, attempt: Attempt) -> LoggedIn | None:
        user = session.get_one(User, user_id)
        if user.totp_sealed is not None:
            secret = self._keyring.unseal(user.totp_sealed, f"user:{user.id}")
            if not totp.use(session, user, secret, attempt.code or ""):
                return None
        login, text = credentials.issue(session, user, "session", label=attempt.label)
        who = _principal(user, attempt)
        audit.record(session, user.tenant_id, who, "login", of=("login", login.id))
        return LoggedIn(user, login, text)

    def _check(self, attempt: Attempt) -> None:
        self._pairs.check(_pair(attempt))
        self._addresses.check(attempt.address or "")
        self._accounts.check(attempt.name)

    async def _failed(self, attempt: Attempt, user: User | None, outcome: str) -> None:
        self._pairs.add(_pair(attempt))
        self._addresses.add(attempt.address or "")
        self._accounts.add(attempt.name)
        if user is not None:
            who = _principal(user, attempt)
            await self._database.write(
                None, audit.record, user.tenant_id, who, "login", outcome, of=("user", user.id)
            )


def _find(session: Session, name: str) -> User | None:
    return session.scalar(
        select(User)
        .join(Tenant, Tenant.id == User.tenant_id)
        .where(User.name == name, User.disabled_ms.is_(None), Tenant.disabled_ms.is_(None))
    )


def _pair(attempt: Attempt) -> str:
    return f"{attempt.address}\n{attempt.name}"


def _principal(user: User, attempt: Attempt) -> Principal:
    return Principal(
        "user", user.id, user.name, user.tenant_id, Role(user.role), None, attempt.address
    )
