"""Messages on their way to the tenants' targets: one of a tenant at a time, in a thread of its own.

Rules: on the loop. A target that never answers holds up its own tenant's messages and nobody
else's, and no thread that others wait for. After `send_s` a message counts as not taken, whatever
its thread still does; the tenant's next one waits for that thread. A thread ends with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import structlog

SEND_S = 30.0
Notify = Callable[[str, str, str], bool]
_log = structlog.get_logger()


class Sending:
    """See the module.

    Args:
        notify: sends url, title and body, and tells whether they were taken; blocks.
    """

    def __init__(self, notify: Notify, send_s: float = SEND_S) -> None:
        self._notify = notify
        self._send_s = send_s
        self._busy: set[str] = set()

    def is_busy(self, tenant_id: str) -> bool:
        """Tell whether something of a tenant's is on its way."""
        return tenant_id in self._busy

    async def send(self, tenant_id: str, url: str, title: str, body: str) -> bool:
        """Send one message; tell whether it was taken."""
        if tenant_id in self._busy:
            return False
        self._busy.add(tenant_id)
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[bool] = loop.create_future()

        def ended(is_taken: bool) -> None:
            self._busy.discard(tenant_id)
            if not taken.done():
                taken.set_result(is_taken)

        def work() -> None:
            is_taken = self._is_taken(url, title, body)
            try:
                loop.call_soon_threadsafe(ended, is_taken)
            except RuntimeError:  # the hub has stopped meanwhile
                return

        threading.Thread(target=work, name="alert", daemon=True).start()
        try:
            async with asyncio.timeout(self._send_s):
                return await taken
        except TimeoutError:
            return False

    def _is_taken(self, url: str, title: str, body: str) -> bool:
        try:
            return self._notify(url, title, body)
        except Exception as error:  # noqa: BLE001  (a service's own code, for any address)
            _log.warning("an alert's service failed", error=type(error).__name__)
            return False
