"""One-time things: a conditional UPDATE or DELETE, and how many rows it met.

Rule: whoever met the row has won; everybody else finds 0. Source: architecture, "Hub".
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.orm import Session


def affected(session: Session, statement: Update | Delete) -> int:
    """Run a conditional change and return how many rows it changed."""
    done = session.execute(statement, execution_options={"synchronize_session": False})
    return int(cast("CursorResult[Any]", done).rowcount)
