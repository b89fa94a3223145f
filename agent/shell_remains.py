"""What is left of a session whose worker ended while there was no agent: its last output, spooled.

It stands in for the worker, so that the session's output is said under credit and before its
`shell_closed` as ever, and then it is gone. Source: architecture, "Adoption".
"""

from __future__ import annotations

from agent.worker import Gone, Owner, Worker
from workers.jobs import JobRecord, Spool
from workers.loop import Loop
from workers.messages import STREAM_TERMINAL, Credit, Gap, Linked, Replay, ToWorker

CHUNK_BYTES = 16 << 10


class Remains(Worker):
    """Answers Replay and Credit from a spool; see the module."""

    def __init__(self, loop: Loop, record: JobRecord, owner: Owner, spool: Spool) -> None:
        super().__init__(loop, record, owner, lambda _worker: None, lambda _worker, _said: None)
        self.state = "EXITED"
        self.result = spool.result
        self._first = spool.offset
        self._unread = spool.unread
        self._next = spool.offset
        self._credit = 0
        self._is_linked = False

    def send(self, message: ToWorker) -> None:
        """Take what a worker would take; the output comes in the loop's next turn."""
        if isinstance(message, Replay):
            self._is_linked = True
            self._credit = message.credit
            self._next = max(message.offset, self._first)
            if message.offset < self._first:
                gap = Gap(start=message.offset, end=self._first)
                self._loop.call_soon(lambda: self.owner.on_mail(self, gap))
        elif isinstance(message, Credit):
            self._credit += message.bytes
        elif isinstance(message, Linked):
            self._is_linked = message.up
        self._loop.call_soon(self._say)

    def kill(self, gone: Gone) -> None:
        """It is dead."""

    def _say(self) -> None:
        left = self._first + len(self._unread) - self._next
        size = min(self._credit, left, CHUNK_BYTES)
        if not self._is_linked or size <= 0:
            return
        start = self._next - self._first
        offset, self._next = self._next, self._next + size
        self._credit -= size
        self.owner.on_output(self, STREAM_TERMINAL, offset, self._unread[start : start + size])
        self._loop.call_soon(self._say)
