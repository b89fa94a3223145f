"""How often is asked what only asking tells: often at first, then seldom.

An answer costs both sides more than the test that waits for it: fifty questions a second would
keep a machine busy with nothing else.
"""

from __future__ import annotations

import time

LEAST_S, MOST_S = 0.02, 0.25


def pause(begun_s: float) -> None:
    """Sleep for a tenth of what it has taken since `begun_s`, by the monotonic clock."""
    time.sleep(min(max((time.monotonic() - begun_s) / 10, LEAST_S), MOST_S))
