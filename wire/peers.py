"""What a peer may be sent: nothing of 1.7 that it has not asked for.

Rules: a foreign peer gets contract 1.1 to 1.6 and 1.9, and nothing else. `shell_output` in base64
is not for this module: its sender must know the peer, since dropping the mark would send garbage.

Source: contract 1.7.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from wire import features as f
from wire.events import Message, event_name
from wire.fields import LISTED

# Events that exist only under a feature.
EVENT_FEATURES: dict[str, str] = {
    "shell_credit": f.CREDIT,
    "admin_credit": f.CREDIT,
    "admin_output": f.STREAM,
    "shell_ack": f.RESUME,
    "shell_resume": f.RESUME,
    "shell_gap": f.RESUME,
    "worker_list": f.WORKERS,
    "workers": f.WORKERS,
    "worker_restart": f.WORKERS,
    "worker_result": f.WORKERS,
    "poll_now": f.POLL_NOW,
    "backup_cancel": f.BACKUP2,
    "backup_verify": f.BACKUP2,
    "backup_restore": f.BACKUP2,
    "backup_ls": f.BACKUP2,
    "backup_prune": f.BACKUP2,
    "backup_schedule_list": f.BACKUP2,
    "backup_schedule_set": f.BACKUP2,
    "backup_result": f.BACKUP2,
    "tool_call": f.TOOLS,
    "tool_cancel": f.TOOLS,
    "tool_progress": f.TOOLS,
    "tool_result": f.TOOLS,
    "tool_catalog": f.TOOLS,
}

M = TypeVar("M", bound=Message)


def for_peer(message: M, features: frozenset[str] | None) -> M | None:
    """Give what may be sent of a message.

    Args:
        message: any row of the table.
        features: what `features.agreed` gave for the link; None for a foreign peer.

    Returns:
        the message without the fields that the peer has not asked for (the same object where
        there are none), or None where the whole event is not for it.
    """
    needed = EVENT_FEATURES.get(event_name(message))
    if needed is not None and not _may(needed, features):
        return None
    dropped = {
        field: None
        for field, feature in message.OURS.items()
        if getattr(message, field) is not None and not _may(feature, features)
    }
    return replace(message, **dropped) if dropped else message


def _may(feature: str, features: frozenset[str] | None) -> bool:
    return features is not None and (feature == LISTED or feature in features)
