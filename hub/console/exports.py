"""The list of machines as CSV: everything that the filter finds, not only the page shown.

Rules: read and sent page by page, so that its length is nobody's memory; a text that a spreadsheet
would take for a formula is prefixed by an apostrophe.
Source: fault cases D ("CSV export"); OWASP, "CSV Injection"; RFC 4180.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from hub.agents import listing
from hub.agents.models import Asset
from hub.assembly import Hub
from hub.authorize import Principal
from hub.clock import iso
from hub.console.access import may_see
from hub.console.agents import STATES
from hub.console.forms import checked
from hub.requests import Caller, TheHub

router = APIRouter(include_in_schema=False)
AT_ONCE = 500
COLUMNS = (
    "name", "state", "last_seen", "tags", "os", "version", "cpu_percent", "memory_percent",
    "disk_percent", "last_backup", "last_backup_ok", "id",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@router.get("/agents.csv")
async def agents(
    hub: TheHub,
    q: Annotated[str, Query(max_length=128)] = "",
    presence: Annotated[str, Query(max_length=16)] = "",
    tag: Annotated[str, Query(max_length=64)] = "",
    caller: Caller = may_see("agents.read"),
) -> Response:
    """Send every machine that a filter finds."""
    wanted = checked(
        listing.Filter,
        q=q or None,
        presence=[presence] if presence in STATES else None,
        tag=[tag] if tag else None,
    )
    headers = {
        "Content-Disposition": 'attachment; filename="agents.csv"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_lines(hub, caller, wanted), 200, headers, "text/csv; charset=utf-8")


async def _lines(hub: Hub, caller: Principal, wanted: listing.Filter) -> AsyncIterator[str]:
    yield line(COLUMNS)
    order = listing.Order("name", descending=False)
    cursor: str | None = None
    while True:
        found, cursor = await hub.database.read(
            caller.scope, listing.page, wanted, order, AT_ONCE, cursor
        )
        yield "".join(line(_cells(machine)) for machine, _ in found)
        if cursor is None:
            return


def _cells(machine: Asset) -> list[object]:
    return [
        machine.name,
        machine.presence,
        iso(machine.seen_ms) if machine.seen_ms else "",
        " ".join(machine.tags),
        machine.release or machine.platform,
        machine.agent_version,
        machine.cpu,
        machine.mem_percent,
        machine.disk_percent,
        iso(machine.last_backup_ms) if machine.last_backup_ms else "",
        machine.last_backup_ok,
        machine.id,
    ]


def line(cells: Iterable[object]) -> str:
    """Write one line; texts cannot become formulas."""
    text = io.StringIO()
    csv.writer(text).writerow([_safe(cell) for cell in cells])
    return text.getvalue()


def _safe(cell: object) -> object:
    is_formula = isinstance(cell, str) and cell.startswith(_FORMULA)
    return f"'{cell}" if is_formula else cell
