"""Look for trouble, tell consoles, and send what is due.

Rules: on the loop; looking is one unit of work each `LOOK_S`; sending happens in threads, so that a
target that does not answer holds nothing up. A message that
fails is tried again, at last after hours.
"""

from __future__ import annotations

import asyncio

import structlog

from hub.alerts import conditions, service
from hub.alerts.models import Alert
from hub.alerts.views import AlertOut
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import HubError
from hub.keyring import Keyring
from hub.sockets.console import Console

LOOK_S = 5.0
TOPIC = "alerts"
_log = structlog.get_logger()


class Alerts:
    """See the module."""

    def __init__(self, database: Database, keyring: Keyring, console: Console) -> None:
        self._database = database
        self._keyring = keyring
        self._console = console

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except HubError as error:
                _log.warning("alerts were not looked for", error=error.code)

    async def run_sending(self) -> None:
        """Send, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.send()
            except HubError as error:
                _log.warning("alerts were not sent", error=error.code)

    async def look(self) -> None:
        """Raise what is new, resolve what is over."""
        found = await self._database.read(None, conditions.find, now_ms())
        self.changed(*await self._database.write(None, service.reconcile, found))

    def changed(self, *alerts: Alert) -> None:
        """Tell consoles."""
        for alert in alerts:
            view = AlertOut.of(alert).model_dump()
            self._console.publish(alert.tenant_id, TOPIC, "alert", view)

    async def send(self) -> None:
        """Send what is due."""
        due = await self._database.write(None, service.due)
        await asyncio.gather(*(self._send(alert) for alert in due))

    async def _send(self, alert: Alert) -> None:
        url = await self._database.read(None, service.target, self._keyring, alert.tenant_id)
        if url is None:
            await self._database.write(None, service.nobody_to_tell, alert.id)
            return
        as_resolved = alert.raised_told_ms is not None
        title = f"{'resolved' if as_resolved else alert.kind}: {alert.asset_name}"
        if await asyncio.to_thread(notify, url, title, alert.summary):
            await self._database.write(None, service.told, alert.id, as_resolved=as_resolved)
        else:
            _log.warning("an alert was not sent", alert_id=alert.id, tries=alert.tries + 1)
            await self._database.write(None, service.not_told, alert.id)


def notify(url: str, title: str, body: str) -> bool:
    """Send one message; tell whether it left. Blocks."""
    import apprise

    sender = apprise.Apprise()
    return bool(sender.add(url)) and bool(sender.notify(title=title, body=body))
