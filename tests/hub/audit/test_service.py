"""The audit log: one chain a tenant, whoever appends at once."""

from __future__ import annotations

import asyncio

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service
from hub.audit.models import AuditRow
from hub.db.database import Database


def test_rows_written_at_once_form_one_chain_without_gaps(database: Database) -> None:
    async def write() -> None:
        jobs = [
            database.write("t1", service.record, "t1", service.SYSTEM, "test", n=n)
            for n in range(40)
        ]
        await asyncio.gather(*jobs)

    asyncio.run(write())

    def rows(session: Session) -> list[AuditRow]:
        return list(session.scalars(select(AuditRow).order_by(AuditRow.seq)))

    found = database.read_now("t1", rows)
    assert [row.seq for row in found] == list(range(1, 41))
    before = service.GENESIS
    for row in found:
        assert row.digest == service.chain(before, row)
        before = row.digest
