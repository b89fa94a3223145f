"""A signed query is good once: its digest is kept until nobody could use it any more.

Rules: one conditional INSERT decides, for a batch together; what it gave back was new. It survives
a restart. Only queries with a good signature come here, so a stranger cannot burn a client's.

Source: the shared constants of the fault cases (one-time cache TTL).
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import delete
from sqlalchemy.orm import Session

from hub.agents.models import UsedQuery
from hub.db.rows import affected
from wire.limits import ONE_TIME_TTL_S


class Use(NamedTuple):
    """One attempt: the query's signature, which covers client and time."""

    sig: str
    now_ms: int


def use(session: Session, uses: list[Use]) -> list[bool]:
    """Use queries up; tell of each whether this was the first time."""
    first = {one.sig: one for one in reversed(uses)}
    fresh = _insert(session, list(first.values()))
    answers = []
    for one in uses:
        answers.append(one.sig in fresh)
        fresh.discard(one.sig)
    return answers


def forget(session: Session, now_ms: int) -> int:
    """Drop what is out of its time; return how many."""
    return affected(session, delete(UsedQuery).where(UsedQuery.expires_ms <= now_ms))


def _insert(session: Session, uses: list[Use]) -> set[str]:
    """Insert what is not there yet; return what was inserted."""
    connection = session.connection()
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    values = ", ".join([f"({mark}, {mark})"] * len(uses))
    given = [value for one in uses for value in (one.sig, one.now_ms + ONE_TIME_TTL_S * 1000)]
    done = connection.exec_driver_sql(  # a compiled statement for each size would cost the most
        f"INSERT INTO {UsedQuery.__tablename__} (sig, expires_ms) VALUES {values} "
        "ON CONFLICT DO NOTHING RETURNING sig",
        tuple(given),
    )
    return set(done.scalars())
