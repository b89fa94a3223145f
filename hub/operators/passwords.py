"""Passwords: argon2id with the library's parameters, and a dummy check for nobody.

Rules: hashing takes tens of milliseconds and never runs inside a unit of work; an unknown user
costs as long as a wrong password.
"""

from __future__ import annotations

import functools

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_CHARS = 12
_HASHER = PasswordHasher()


def hash_password(password: str) -> str:
    """Return what is kept of a password."""
    return _HASHER.hash(password)


def is_password(kept: str | None, password: str) -> bool:
    """Tell whether it is the password; None (no such user, no password) takes as long to say no."""
    try:
        _HASHER.verify(kept or _nobody(), password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


@functools.cache
def _nobody() -> str:
    return _HASHER.hash("nobody has this password")
