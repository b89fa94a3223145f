"""Pings to agents: the round trip, and whether a link still answers.

Rules: on the loop; one ping is under way for a link at a time. An answer that does not come within
SILENT_S makes a machine `stale`: its link is up, and deaf.

Source: contract 1.2, 1.9.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from hub.agents.links import Link, Links
from hub.clock import now_ms
from hub.errors import HubError
from wire.link import Ping, Pong

EVERY_S = 20.0
SILENT_S = 10.0
_TICK_S = 1.0


class _Trip:
    __slots__ = ("due_s", "sent_s", "ts", "waiters")

    def __init__(self, due_s: float) -> None:
        self.due_s = due_s
        self.sent_s: float | None = None
        self.ts = 0
        self.waiters: list[asyncio.Future[bool]] = []


class Pings:
    """See the module.

    Args:
        links: whom to ask.
        on_silence: called with a link and whether it is silent, when that changes.
    """

    def __init__(self, links: Links, on_silence: Callable[[Link, bool], None]) -> None:
        self._links = links
        self._on_silence = on_silence
        self._trips: dict[Link, _Trip] = {}
        self._silent: set[Link] = set()

    def add(self, link: Link) -> None:
        """A link is up: ask at once, then about every EVERY_S."""
        self._trips[link] = _Trip(0.0)
        self._send(link, self._trips[link])

    def remove(self, link: Link) -> None:
        """A link is gone: nobody waits for it any more."""
        trip = self._trips.pop(link, None)
        self._silent.discard(link)
        for waiter in trip.waiters if trip else ():
            if not waiter.done():
                waiter.set_result(False)

    def on_pong(self, link: Link, message: Pong) -> None:
        """An answer: measure it, unless it answers something else."""
        trip = self._trips.get(link)
        if trip is None or trip.sent_s is None or message.ts != trip.ts:
            return
        link.rtt_ms = round((time.monotonic() - trip.sent_s) * 1000, 3)
        trip.sent_s = None
        waiters, trip.waiters = trip.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)
        if link in self._silent:
            self._silent.discard(link)
            self._on_silence(link, False)

    async def answers(self, link: Link, within_s: float) -> bool:
        """Ask whether a link still answers."""
        trip = self._trips.get(link)
        if trip is None:
            return False
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        trip.waiters.append(waiter)
        self._send(link, trip)
        try:
            return await asyncio.wait_for(waiter, within_s)
        except TimeoutError:
            return False

    async def ask_forever(self) -> None:
        """Ask those whose turn it is, again and again."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.look(time.monotonic())

    def look(self, now_s: float) -> None:
        """Ask those whose turn it is; tell of those that fell silent."""
        for link, trip in list(self._trips.items()):
            if trip.sent_s is None:
                if now_s >= trip.due_s:
                    self._send(link, trip)
            elif now_s - trip.sent_s >= SILENT_S and link not in self._silent:
                self._silent.add(link)
                self._on_silence(link, True)

    def _send(self, link: Link, trip: _Trip) -> None:
        now_s = time.monotonic()
        trip.ts = max(now_ms(), trip.ts + 1)
        trip.due_s = now_s + EVERY_S * random.uniform(0.75, 1.25)  # not all at once
        trip.sent_s = now_s if trip.sent_s is None else trip.sent_s
        try:
            self._links.send_nowait(link, Ping(ts=trip.ts))
        except HubError:
            self.remove(link)
