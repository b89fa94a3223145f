"""The extensions of contract 1.7: their names, and when both sides may use them.

A side uses a feature only after it has seen the other's list. A peer that never sent a list is
*foreign* and is `None` wherever a peer's features are asked for; an empty list is not foreign.

Source: contract 1.7.
"""

from __future__ import annotations

from collections.abc import Iterable

ACK = "ack"
CREDIT = "credit"
RESUME = "resume"
STREAM = "stream"
BASE64 = "base64"
WORKERS = "workers"
POLL_NOW = "poll_now"
BACKUP2 = "backup2"
TOOLS = "tools"

FEATURES = (ACK, CREDIT, RESUME, STREAM, BASE64, WORKERS, POLL_NOW, BACKUP2, TOOLS)

# Offsets count bytes of the raw stream, which text alone does not give back.
_NEEDS_BASE64 = frozenset({RESUME, STREAM})


def agreed(ours: Iterable[str], theirs: Iterable[str] | None) -> frozenset[str] | None:
    """Give the features that this link may use.

    Args:
        ours: what this side lists.
        theirs: what the peer listed; None when it sent no list.

    Returns:
        the usable features, or None for a foreign peer. `resume` and `stream` fall away
        without `base64`. Names that nobody here knows are ignored.
    """
    if theirs is None:
        return None
    both = frozenset(ours) & frozenset(theirs) & frozenset(FEATURES)
    return both if BASE64 in both else both - _NEEDS_BASE64
