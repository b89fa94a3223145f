"""Tell consoles that a tenant's log has grown: pages without an event of their own read again.

Rules: on the loop; the heads are looked at, whichever process appended, and only while somebody
watches. What grew before that is told to the first who does. Consoles are told families of actions
(`users`, `enrolment`), not rows: whoever may read these reads them.
"""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit.models import AuditHead, AuditRow
from hub.db.database import Database
from hub.errors import HubError
from hub.sockets.console import Console

TOPIC = "audit"
LOOK_S = 1.0
MAX_ROWS = 500
_log = structlog.get_logger()

Seen = dict[str, int]


class Growth:
    """Looks at the chains' ends."""

    def __init__(self, database: Database, console: Console) -> None:
        self._database = database
        self._console = console
        self._seen: Seen = {}

    async def look_forever(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._console.topics.get(TOPIC):
                continue
            try:
                await self.look()
            except HubError as error:
                _log.warning("the log's growth could not be told", code=error.code)

    async def look(self) -> None:
        """Tell what has grown since the last look."""
        grown = await self._database.read(None, grown_since, self._seen)
        for tenant_id, (seq, families) in grown.items():
            self._seen[tenant_id] = seq
            payload = {"seq": seq, "families": families}
            self._console.publish(tenant_id, TOPIC, "audit", payload)


def grown_since(session: Session, seen: Seen) -> dict[str, tuple[int, list[str]]]:
    """Return each chain that has grown: its end, and the families of its newest actions."""
    heads = session.execute(select(AuditHead.tenant_id, AuditHead.seq)).all()
    return {
        tenant_id: (seq, _families(session, tenant_id, max(seen.get(tenant_id, 0), seq - MAX_ROWS)))
        for tenant_id, seq in heads
        if seq > seen.get(tenant_id, 0)
    }


def _families(session: Session, tenant_id: str, after: int) -> list[str]:
    rows = select(AuditRow.action).where(AuditRow.tenant_id == tenant_id, AuditRow.seq > after)
    return sorted({action.partition(".")[0] for action in session.scalars(rows.distinct())})
