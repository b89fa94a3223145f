"""Keyset pages: `?limit=&cursor=`, and `{items, next}` back.

Rules: a cursor is the last row's sort key and id, in base64 of JSON; it is opaque to callers and
worth nothing to a forger, since every query is narrowed to the caller's tenant anyway.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from hub.errors import BadRequestError

MAX_LIMIT = 200
T = TypeVar("T")
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[str | None, Query(max_length=1024)]


class Page(BaseModel, Generic[T]):
    """One page; `next` is the cursor of the page behind it, None at the end."""

    items: list[T]
    next: str | None = None


def fetch(
    session: Session,
    query: Select[Any],
    keys: tuple[InstrumentedAttribute[Any], ...],
    limit: int,
    cursor: str | None,
    *,
    descending: bool = False,
) -> tuple[list[Any], str | None]:
    """Fetch one page of a query of ORM rows.

    Args:
        query: selects the rows, without an order.
        keys: what to sort by; the last one unique, none of them nullable.
        limit: how many rows.
        cursor: from the page before.

    Returns:
        the rows, and the next cursor.

    Raises:
        BadRequestError: `bad_cursor`.
    """
    if cursor:
        after = tuple_(*keys)
        seen = tuple_(*read(cursor, [key.type.python_type for key in keys]))
        query = query.where(after < seen if descending else after > seen)
    order = [key.desc() if descending else key.asc() for key in keys]
    rows = list(session.scalars(query.order_by(*order).limit(limit + 1)))
    if len(rows) <= limit:
        return rows, None
    rows = rows[:limit]
    return rows, write([getattr(rows[-1], key.key) for key in keys])


def write(values: list[Any]) -> str:
    """Write a cursor."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def read(cursor: str, types: list[type]) -> list[Any]:
    """Read a cursor of values of these types, in their order.

    Raises:
        BadRequestError: `bad_cursor`.
    """
    try:
        values = json.loads(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise _bad_cursor() from error
    if not isinstance(values, list) or len(values) != len(types):
        raise _bad_cursor()
    if not all(map(_fits, values, types)):
        raise _bad_cursor()
    return list(values)


def _fits(value: Any, kind: type) -> bool:
    """Tell whether a database can compare a value with a column of a type."""
    if kind is float and isinstance(value, float):
        return math.isfinite(value)
    if kind in (int, float):
        return type(value) is int and abs(value) < 2**63
    return isinstance(value, kind) and not re.search(r"[\0\ud800-\udfff]", str(value))


def _bad_cursor() -> BadRequestError:
    return BadRequestError("cursor: take it from the page before", code="bad_cursor")
