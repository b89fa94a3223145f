"""What a kind of worker implements, and what it is given.

`workers/<kind>/worker.py` has `def make(desk: Desk) -> Worker`. `workers/entry.py` owns the loop,
the mailbox, the beat and the lease, and calls the worker from that one thread. A callback that
blocks stops the beat, and a worker without a beat for 15 s is killed as stalled: so a kind whose
work can hang (a network fetch, a dead mount) bounds it, or accepts to be killed for it. A kind that
imports anything later than its own module also has `def import_all() -> None`, which is called
before the process becomes another account: that one may not be able to read Python's own files.
"""

from __future__ import annotations

from typing import Any, Protocol

from workers.loop import Loop
from workers.messages import End, Result, Spec, ToAgent, ToWorker


class Desk(Protocol):
    """A worker's only way to the rest of the program."""

    loop: Loop
    job_id: str
    state_dir: str  # the agent's state directory; only kinds that still have the right can write
    secret_dirs: list[str]  # what a confined kind must lose sight of

    def send(self, message: ToAgent) -> None:
        """Queue a message for the agent; dropped while no agent is connected."""

    def send_data(self, stream: int, offset: int, data: bytes) -> None:
        """Queue raw output; `offset` is its first byte's place in the stream.

        Only when `has_room()`: output is never dropped on the way.
        """

    def has_room(self) -> bool:
        """Is an agent connected and are fewer than 256 KiB waiting for it?

        When it turns true again, the worker's `on_room` is called.
        """

    def finish(self, result: Result) -> None:
        """Give the final result, once, after the last output was handed to `send_data`.

        It is kept and sent until the agent has stored it, and written to the state directory
        when there is no agent until the lease ends.
        """

    def progress(self) -> None:
        """Say that the job got on; the next beat carries it."""

    def log(self, level: str, sentence: str, **fields: Any) -> None:
        """Log through the agent: a constant sentence and fields, never job data or secrets."""


class Worker(Protocol):
    """One job in one process."""

    def on_start(self, spec: Spec) -> None:
        """Begin; called once, after `run_as` has been applied. Must not block."""

    def on_data(self, data: bytes) -> None:
        """Terminal input, in order."""

    def on_message(self, message: ToWorker) -> None:
        """Anything of ToWorker save Dial, Start and Forget, which entry handles itself."""

    def on_attached(self) -> None:
        """An agent has connected (again); Hello has been sent."""

    def on_detached(self) -> None:
        """The agent is gone; the lease runs."""

    def on_room(self) -> None:
        """`has_room()` has become true again."""

    def end(self, reason: str) -> None:
        """End the whole job now (lease over, stop, cancel) and `finish` with `reason`."""

    def position(self) -> tuple[int | None, int, int]:
        """For Hello: the job's child pid, the terminal stream's next offset, the oldest kept."""

    def unread(self) -> tuple[int, bytes]:
        """Terminal output that nobody has acknowledged, and the offset of its first byte.

        Written to the spool with the final result. A kind without a stream returns (0, b"").
        """


class StreamlessWorker:
    """The half of a Worker that a kind without a terminal, and without output bytes, shares."""

    def on_data(self, data: bytes) -> None:
        return None

    def on_message(self, message: ToWorker) -> None:
        if isinstance(message, End):
            self.end(message.reason)

    def on_attached(self) -> None:
        return None

    def on_detached(self) -> None:
        return None

    def on_room(self) -> None:
        return None

    def end(self, reason: str) -> None:
        raise NotImplementedError

    def position(self) -> tuple[int | None, int, int]:
        return None, 0, 0

    def unread(self) -> tuple[int, bytes]:
        return 0, b""
