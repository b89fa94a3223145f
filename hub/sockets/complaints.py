"""What peers do wrong, told to the log: at most one line for each key in a while.

Rules: the lines that were held back are counted and told with the next one; no payload, no query.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import structlog

EVERY_S = 10.0
MAX_KEYS = 4096
_log = structlog.get_logger()


class Complaints:
    """See the module."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def tell(self, key: str, reason: str, **fields: Any) -> None:
        """Log one line for `key`, or hold it back."""
        now = time.monotonic()
        last, held = self._told.get(key, (-self._every_s, 0))
        if now - last < self._every_s:
            self._told[key] = (last, held + 1)
            return
        self._told[key] = (now, 0)
        self._told.move_to_end(key)
        if len(self._told) > MAX_KEYS:
            self._told.popitem(last=False)
        more = {"held_back": held} if held else {}
        _log.warning("a peer did wrong", reason=reason, **fields, **more)
