"""One-time codes of an authenticator app.

Rules: six digits, 30 s, one step of drift either way; a step is used once: the conditional UPDATE's
rowcount decides, so that of two requests with the same code one gets in.
Source: RFC 6238.
"""

from __future__ import annotations

import pyotp
from sqlalchemy import update
from sqlalchemy.orm import Session

from hub.clock import now_ms
from hub.db.rows import affected
from hub.operators.models import User

STEP_S = 30
DRIFT = (0, -1, 1)
ISSUER = "Jackline"


def new_secret() -> str:
    """Make a secret, in base32."""
    return pyotp.random_base32()


def uri(secret: str, name: str) -> str:
    """Return what the app scans."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER)


def step_of(secret: str, code: str, at_ms: int) -> int | None:
    """Return the step whose code this is, or None."""
    text = code.strip().replace(" ", "")
    if len(text) != 6 or not text.isascii() or not text.isdigit():
        return None
    now = at_ms // 1000 // STEP_S
    app = pyotp.TOTP(secret)
    for drift in DRIFT:
        if pyotp.utils.strings_equal(app.generate_otp(now + drift), text):
            return now + drift
    return None


def use(session: Session, user: User, secret: str, code: str, at_ms: int | None = None) -> bool:
    """Use a code up; tell whether it was good and new."""
    step = step_of(secret, code, now_ms() if at_ms is None else at_ms)
    if step is None:
        return False
    later = update(User).where(User.id == user.id, User.totp_last_step < step)
    return affected(session, later.values(totp_last_step=step)) == 1
