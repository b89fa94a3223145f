"""Takes samples off the links and stores them in groups; the newest of each machine wins.

Rules: on the loop; a sample that comes while the one before waits replaces it; while the database
does not answer the newest are kept and tried again. Watchers of a machine hear of each sample at
once.

Source: contract 1.9.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from hub.agents.links import Link
from hub.clock import iso, now_ms
from hub.db.database import Database
from hub.errors import HubError
from hub.settings import HubSettings
from hub.sockets.console import Console
from hub.telemetry import rollups, service
from hub.telemetry.figures import figures, kept, texts
from wire import telemetry
from wire.telemetry import Stats

STORE_S = 1.0
SWEEP_S = 60.0
MAX_GROUP = 2000
HOUR_MS = 3_600_000
_log = structlog.get_logger()


class Collector:
    """See the module."""

    def __init__(self, database: Database, console: Console, settings: HubSettings) -> None:
        self._database = database
        self._console = console
        self._settings = settings
        self._waiting: dict[str, service.Taken] = {}

    def on_stats(self, link: Link, message: Stats) -> None:
        """Take what a live link brought."""
        self.take(link.tenant_id, link.asset_id, message.data, link.rtt_ms)

    def take(
        self, tenant_id: str, asset_id: str, sample: telemetry.Sample, rtt_ms: float | None = None
    ) -> None:
        """Take a machine's sample, whichever link brought it."""
        at_ms = now_ms()
        found = figures(sample, rtt_ms)
        changes: dict[str, Any] = {"sample": kept(sample), "seen_ms": at_ms}
        changes |= {name: found[name] for name in ("cpu", "mem_percent", "disk_percent")}
        changes |= {name: one for name, one in texts(sample).items() if name in _OF_ASSET}
        if rtt_ms is not None:
            changes["rtt_ms"] = rtt_ms
        self._waiting[asset_id] = service.Taken(tenant_id, asset_id, at_ms, changes, found)
        self._console.publish(
            tenant_id,
            f"agent:{asset_id}",
            "stats",
            {"asset_id": asset_id, "at": iso(at_ms), **found, "sample": changes["sample"]},
        )

    async def store_forever(self) -> None:
        """Store what has gathered, again and again."""
        while True:
            await asyncio.sleep(STORE_S)
            await self.store()

    async def store(self) -> None:
        """Store what has gathered."""
        waiting, self._waiting = self._waiting, {}
        taken = list(waiting.values())
        for start in range(0, len(taken), MAX_GROUP):
            group = taken[start : start + MAX_GROUP]
            try:
                await self._database.write(None, service.store, group)
            except HubError as error:
                _log.warning("samples could not be stored", code=error.code, count=len(group))
                self._waiting = {one.asset_id: one for one in group} | self._waiting

    async def sweep_forever(self) -> None:
        """Roll up and drop what is old, again and again."""
        while True:
            try:
                await self.sweep(now_ms())
            except HubError as error:
                _log.warning("samples could not be rolled up", code=error.code)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self, at_ms: int) -> None:
        """Roll up, then drop what is old until nothing is."""
        await self._database.write(None, rollups.roll_up, at_ms)
        raw_ms = self._settings.telemetry_raw_hours * HOUR_MS
        rollup_ms = self._settings.telemetry_rollup_days * 24 * HOUR_MS
        while await self._database.write(None, service.prune, at_ms, raw_ms, rollup_ms):
            await asyncio.sleep(0)


_OF_ASSET = frozenset({"platform", "release", "arch", "agent_version"})
