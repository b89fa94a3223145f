"""One private queue pair per worker, thrown away with it: the platform-neutral face.

The worker listens, the agent dials, so that a new agent process can dial again. Both ends are
non-blocking and live in a `workers.loop.Loop`; frames are those of `workers.frames`. Nothing is
shared between two workers: a process that is killed in the middle of a write can spoil only its
own mailbox. (A shared queue deadlocked in 30 of 100 kills; see the ADR on private mailboxes.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from workers.loop import Loop

MAX_PENDING_BYTES = 8 << 20


class Mailbox(Protocol):
    """One end of a connected queue pair.

    Only the loop's thread calls it. `on_frame(type, body)` is called for every frame that comes
    in, `on_closed(reason)` once when the peer is gone or broke the rules, `on_room()` when
    `pending_bytes` has fallen below `room_bytes` again.
    """

    on_frame: Callable[[int, bytes], None]
    on_closed: Callable[[str], None]
    on_room: Callable[[], None]

    @property
    def pending_bytes(self) -> int:
        """Bytes put but not yet taken by the system."""

    def put(self, frame: bytes) -> None:
        """Queue one whole frame; never blocks.

        Raises:
            MailboxFullError: the peer has not read for so long that it must be taken for hung.
        """

    def pause(self, paused: bool) -> None:
        """Stop or go on taking frames in."""

    def close(self) -> None:
        """Close without `on_closed`; idempotent."""


class Listener(Protocol):
    """A worker's address; accepts one peer at a time."""

    def close(self) -> None:
        """Stop listening and remove the address."""


if sys.platform == "win32":
    from workers.queues_windows import dial, listen
else:
    from workers.queues_posix import dial, listen

__all__ = ["MAX_PENDING_BYTES", "Listener", "Loop", "Mailbox", "dial", "listen"]
