"""When a session or an API token was last used, so that whoever looks sees what lies idle.

Rules: written at most once a minute for each, beside the request and never before its answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from hub.clock import now_ms
from hub.db.database import Database
from hub.operators.models import Login

EVERY_S = 60.0
MAX_KEPT = 10_000


class Uses:
    """Notes which logins are used."""

    def __init__(self, database: Database, later: Callable[[Any], None]) -> None:
        self._database = database
        self._later = later
        self._noted_s: OrderedDict[str, float] = OrderedDict()

    def note(self, login_id: str) -> None:
        """Note a use."""
        now_s = time.monotonic()
        if now_s - self._noted_s.get(login_id, -EVERY_S) < EVERY_S:
            return
        self._noted_s[login_id] = now_s
        self._noted_s.move_to_end(login_id)
        if len(self._noted_s) > MAX_KEPT:
            self._noted_s.popitem(last=False)
        self._later(self._database.write(None, _used, login_id))


def _used(session: Session, login_id: str) -> None:
    session.execute(update(Login).where(Login.id == login_id).values(used_ms=now_ms()))
