"""Where the beats of an agent's boots stand: which beat is new, which came before. Pure.

Rules: of a boot the highest `seq` and the latest `sent_at` are kept, of the last few boots; a beat
that is no newer in both came before. An agent that was started again on the same boot counts from
the beginning, at a later `sent_at`.
Source: wire.heartbeat; fault cases C (replayed heartbeat).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wire import bodies
from wire.heartbeat import HeartbeatRequest

MAX_BOOTS = 8


def after(boots: Mapping[str, Any], beat: HeartbeatRequest) -> dict[str, list[int]] | None:
    """Return the boots once a beat is in; None when it came before."""
    sent_ms = _sent_ms(beat)
    found: dict[str, list[int]] = dict(boots)
    last = found.pop(beat.boot_id, None)
    if last is not None and beat.seq <= last[0] and sent_ms <= last[1]:
        return None
    found[beat.boot_id] = [beat.seq, sent_ms]
    return dict(list(found.items())[-MAX_BOOTS:])


def _sent_ms(beat: HeartbeatRequest) -> int:
    try:
        return int(bodies.wall_s(beat.sent_at) * 1000)
    except (ValueError, OverflowError):
        return 0
