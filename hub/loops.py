"""Loops that must not end while the hub runs: what one of them does not expect ends a round, alone.

Rules: on the server's loop; a loop deals with the errors that it knows by itself. Any other is
logged, and the loop begins again after PAUSE_S: a hub that lives and looks after nothing is worse
than one that has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

PAUSE_S = 1.0
_log = structlog.get_logger()


async def keep_up(loop: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S) -> None:
    """Run a loop until it is cancelled or returns."""
    while True:
        try:
            await loop()
            return
        except Exception:  # noqa: BLE001  (whatever it is, the next round may not meet it)
            name = getattr(loop, "__qualname__", repr(loop))
            _log.exception("a loop of the hub failed, and begins again", loop=name)
        await asyncio.sleep(pause_s)
