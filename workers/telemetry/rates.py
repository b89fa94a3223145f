"""Turn counters of bytes into bytes a second.

Pure. Rules: a rate is never negative and never guessed: an interface that was not there before, or
whose counter went back, has none for that interval. Only a 32-bit counter that was close to its end
is taken to have wrapped.

Source: contract 1.9, `net`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_WRAP = 1 << 32
_NEAR_END = 3 * _WRAP // 4


class Totals(NamedTuple):
    """Bytes that an interface has taken and sent since it exists."""

    received: int
    sent: int


class Rates:
    """Remembers the totals of the last sample.

    Args:
        totals: those of the beginning, by interface.
        now_s: when they were read.
    """

    def __init__(self, totals: Mapping[str, Totals], now_s: float) -> None:
        self._totals = dict(totals)
        self._then_s = now_s

    def next(self, totals: Mapping[str, Totals], now_s: float) -> list[dict[str, Any]]:
        """Return the wire's `net` for the interval since the last call, by name."""
        before, self._totals = self._totals, dict(totals)
        elapsed_s, self._then_s = now_s - self._then_s, now_s
        return [
            {
                "name": name,
                "rxBytes": now.received,
                "txBytes": now.sent,
                "rxBps": _rate(before.get(name, now).received, now.received, elapsed_s),
                "txBps": _rate(before.get(name, now).sent, now.sent, elapsed_s),
            }
            for name, now in sorted(totals.items())
        ]


def _rate(before: int, now: int, elapsed_s: float) -> int:
    grown = now - before
    if grown < 0 and _NEAR_END <= before < _WRAP and now < _WRAP - _NEAR_END:
        grown += _WRAP
    return round(grown / elapsed_s) if grown > 0 and elapsed_s > 0 else 0
