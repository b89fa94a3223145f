"""What has ended leaves after a while: jobs, commands, alerts, and log-ins that are good no more.

Rules: `history_days` after its end, a bounded number of rows a unit; what is open stays however old
it is. The audit log, which tells of all of it, has a time of its own (hub.audit.seals), and so have
samples, presence, recordings and artifacts.
Source: product "Complaints" (the database grows).
"""

from __future__ import annotations

import asyncio

import structlog

from hub.alerts import service as alerts
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import HubError
from hub.heartbeat import command_progress as commands
from hub.jobs import sweeps as jobs
from hub.operators import credentials as logins

EVERY_S = 600.0
DAY_MS = 24 * 3600 * 1000
FORGETTERS = (jobs.forget, commands.forget, alerts.forget, logins.forget)
_log = structlog.get_logger()


async def forget_forever(database: Database, days: int) -> None:
    """Forget, again and again."""
    while True:
        try:
            await forget(database, now_ms() - days * DAY_MS)
        except HubError as error:
            _log.warning("old rows could not be dropped", code=error.code)
        await asyncio.sleep(EVERY_S)


async def forget(database: Database, before_ms: int) -> None:
    """Forget what ended before a time."""
    for forgetter in FORGETTERS:
        while await database.write(None, forgetter, before_ms):
            await asyncio.sleep(0)
