"""Loops that must not end while the hub runs: what one of them does not expect ends a round, alone.

Rules: on the server's loop. What is not dealt with in the loop is logged, by its code where the hub
knows it (a database that is away), and the loop begins again after PAUSE_S: a hub that lives and
looks after nothing is worse than one that has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from hub.errors import HubError

PAUSE_S = 1.0
_log = structlog.get_logger()


async def keep_up(loop: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S) -> None:
    """Run a loop until it is cancelled or returns."""
    while True:
        try:
            await loop()
            return
        except HubError as error:
            _log.warning("a loop of the hub begins again", loop=_name(loop), code=error.code)
        except Exception:  # noqa: BLE001  (whatever it is, the next round may not meet it)
            _log.exception("a loop of the hub failed, and begins again", loop=_name(loop))
        await asyncio.sleep(pause_s)


def _name(loop: Callable[[], Awaitable[None]]) -> str:
    return str(getattr(loop, "__qualname__", loop))
