"""Look for trouble, tell consoles, and send what is due.

Rules: on the loop; looking is a read and short units of work each `LOOK_S`. Each tenant's messages
leave one after the other, beside those of all others (hub.alerts.sending); while one is on its way
the rest of that tenant's wait until their lease is over. A message that fails is tried again, at
last after hours.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import structlog

from hub.alerts import conditions, service
from hub.alerts.models import Alert
from hub.alerts.sending import Sending
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
        self.sending = Sending(notify)

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
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    for alerts in await self._due():
                        tasks.create_task(self._send_all(alerts))
                except HubError as error:
                    _log.warning("alerts were not sent", error=error.code)

    async def look(self) -> None:
        """Raise what is new, resolve what is over."""
        found = await self._database.read(None, conditions.find, now_ms())
        is_more = True
        while is_more:
            changed, is_more = await self._database.write(None, service.reconcile, found)
            self.changed(*changed)

    def changed(self, *alerts: Alert) -> None:
        """Tell consoles."""
        for alert in alerts:
            view = AlertOut.of(alert).model_dump()
            self._console.publish(alert.tenant_id, TOPIC, "alert", view)

    async def send(self) -> None:
        """Send what is due."""
        await asyncio.gather(*(self._send_all(alerts) for alerts in await self._due()))

    async def _due(self) -> Iterable[list[Alert]]:
        """Take what is due, by tenant."""
        found: dict[str, list[Alert]] = defaultdict(list)
        for alert in await self._database.write(None, service.due):
            found[alert.tenant_id].append(alert)
        return found.values()

    async def _send_all(self, alerts: list[Alert]) -> None:
        """Send a tenant's messages, as long as its target takes them in time."""
        try:
            for alert in alerts:
                if self.sending.is_busy(alert.tenant_id):
                    return
                await self._send(alert)
        except Exception:  # noqa: BLE001  (one tenant's trouble is not another's)
            _log.exception("a tenant's alerts were not sent", tenant_id=alerts[0].tenant_id)

    async def _send(self, alert: Alert) -> None:
        url = await self._database.read(None, service.target, self._keyring, alert.tenant_id)
        if url is None:
            await self._database.write(None, service.nobody_to_tell, alert.id)
            return
        as_resolved = alert.raised_told_ms is not None
        title = f"{'resolved' if as_resolved else alert.kind}: {alert.asset_name}"
        if await self.sending.send(alert.tenant_id, url, title, alert.summary):
            await self._database.write(None, service.told, alert.id, as_resolved=as_resolved)
        else:
            _log.warning("an alert was not sent", alert_id=alert.id, tries=alert.tries + 1)
            await self._database.write(None, service.not_told, alert.id)


def notify(url: str, title: str, body: str) -> bool:
    """Send one message; tell whether it left. Blocks."""
    import apprise

    sender = apprise.Apprise()
    return bool(sender.add(url)) and bool(sender.notify(title=title, body=body))
