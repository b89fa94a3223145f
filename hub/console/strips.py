"""The presence strip: a day as one small picture, and as one sentence for who cannot see it.

Rules: pure; an SVG of ours with numbers alone in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from markupsafe import Markup

DAY_MS = 24 * 3600 * 1000
WIDTH = 120


class Stretch(NamedTuple):
    """How an agent was from a moment on."""

    since_ms: int
    presence: str


def strip(history: Iterable[Stretch], now_ms: int) -> Markup:
    """Draw the last 24 hours.

    Args:
        history: in order of time; the first may lie before the day, and tells how it began.

    Returns:
        an SVG with a title such as `online 97 % of the last 24 hours`.
    """
    start_ms = now_ms - DAY_MS
    pieces = _pieces(list(history), start_ms, now_ms)
    online = sum(end - begin for begin, end, presence in pieces if presence == "online")
    words = f"online {100 * online // DAY_MS} % of the last 24 hours"
    rects = "".join(
        f'<rect class="{presence}" x="{_x(begin, start_ms)}" width="{_x(end - begin, 0)}" '
        'y="0" height="16"/>'
        for begin, end, presence in pieces
    )
    return Markup(
        f'<svg class="strip" viewBox="0 0 {WIDTH} 16" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><title>{words}</title>{rects}</svg>'
    )


_KNOWN = ("online", "stale", "offline", "conflict")


def _pieces(history: list[Stretch], start_ms: int, now_ms: int) -> list[tuple[int, int, str]]:
    found = []
    first = history[0].since_ms if history else now_ms
    if first > start_ms:
        found.append((start_ms, first, "unknown"))
    for at, stretch in enumerate(history):
        end = history[at + 1].since_ms if at + 1 < len(history) else now_ms
        begin = max(stretch.since_ms, start_ms)
        if end > begin:
            word = stretch.presence if stretch.presence in _KNOWN else "unknown"
            found.append((begin, end, word))
    return found


def _x(ms: int, start_ms: int) -> float:
    return round(WIDTH * (ms - start_ms) / DAY_MS, 2)
