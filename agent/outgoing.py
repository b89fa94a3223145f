"""The fair send queue: what the core has to say, in the order in which the link's writer says it.

Order: the engine's own packets; pongs; control (refusals, errors, answers); finals; newest-wins
slots; then one event of each session in turn. A final that belongs to a session follows what that
session has still queued, because nothing of a session comes after its end.

Rules: the core thread puts, the link's reader puts pongs, the link's writer takes; nothing here
blocks but `take`. Nothing is put on the wire before `open` (the namespace's CONNECT reply), save
the engine's packets. `close` throws away what only made sense on that connection (control, data)
and keeps the slots; finals live in the outbox, terminal output in its worker. Data is never
refused: `on_drained` tells what has left, and whoever produces grants no more than that.

Source: architecture "Fairness and pressure"; contract 1.1, 1.2.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from wire.events import ToServer
from workers.loop import now_s


class Plain(NamedTuple):
    """A message that belongs to nobody's turn."""

    message: ToServer


class Data(NamedTuple):
    """One event of a session; `cost` is what it counts for in `on_drained`."""

    session: str
    message: ToServer
    cost: int


class Final(NamedTuple):
    """One record of the outbox on its way; its ticket is also its acknowledgement's number."""

    ticket: int
    name: str
    payload: bytes
    wants_ack: bool = False


class EnginePacket(NamedTuple):
    """A packet of the Engine.IO client itself, already encoded; None asks the writer to end."""

    text: str | bytes | None
    is_pong: bool = False


class Ack(NamedTuple):
    """Our acknowledgement of an event that the server numbered."""

    ack_id: int


Item = EnginePacket | Ack | Plain | Data | Final


class Outgoing:
    """One link's queue, kept over its reconnects.

    Args:
        on_drained: called by the writer's thread with a session and the cost of what has just
            been handed to the system; it must only hand that on.
    """

    def __init__(self, on_drained: Callable[[str, int], None] | None = None) -> None:
        self.on_drained = on_drained
        self._lock = threading.Lock()
        self._wake = threading.Lock()  # held while the writer has no reason to wake
        self._wake.acquire()
        self._is_asleep = False
        self._is_open = False
        self._in_hand = False
        self._express: Callable[[Item], bool] | None = None
        self._is_express_busy = False
        self._engine: deque[Item] = deque()
        self._first: deque[Item] = deque()
        self._control: deque[Item] = deque()
        self._finals: deque[Item] = deque()
        self._slots: dict[Hashable, Plain] = {}
        self._sessions: dict[str, deque[Data | Final]] = {}
        self.superseded = 0
        self.last_sent_s = now_s()

    # -- the core thread -------------------------------------------------------------------------

    def control(self, message: ToServer) -> None:
        """Queue an answer, a refusal or an error, ahead of all output."""
        with self._lock:
            if self._is_open:
                self._control.append(Plain(message))
                self._notify()

    def data(self, session: str, message: ToServer, cost: int) -> None:
        """Queue one event of a session (or of a streaming job).

        Args:
            session: whose turn it takes.
            message: an output event.
            cost: its raw bytes, which come back through `on_drained`.
        """
        with self._lock:
            if not self._is_open:
                return
            item = Data(session, message, cost)
            express = self._express if cost <= 4096 and self._is_quiet() else None
            if express is None:
                self._queue_data(item)
                return
            self._is_express_busy = True
        has_left = express(item)
        with self._lock:
            self._is_express_busy = False
            if not has_left:
                self._queue_data(item)
            elif not self._is_quiet():
                self._notify()
        if has_left:
            self.sent(item)

    def latest(self, key: Hashable, message: ToServer) -> None:
        """Put a message into a slot; one that still waits there is replaced and counted."""
        with self._lock:
            if self._slots.pop(key, None) is not None:
                self.superseded += 1
            self._slots[key] = Plain(message)
            self._notify()

    def cancel_latest(self, key: Hashable) -> None:
        """Empty a slot: what it would have said is over."""
        with self._lock:
            self._slots.pop(key, None)

    def final(self, event: Final, after: str | None = None) -> None:
        """Queue a final event, behind what the session `after` still has queued."""
        with self._lock:
            if not self._is_open:
                return
            if after is not None and after in self._sessions:
                self._sessions[after].append(event)
            else:
                self._finals.append(event)
            self._notify()

    def forget(self, session: str) -> int:
        """Drop what a session has queued and return its cost; its finals stay."""
        with self._lock:
            queue = self._sessions.pop(session, None) or ()
            self._finals.extend(item for item in queue if isinstance(item, Final))
            return sum(item.cost for item in queue if isinstance(item, Data))

    def pending(self, session: str) -> int:
        """Return the cost of what a session has queued."""
        with self._lock:
            queue = self._sessions.get(session) or ()
            return sum(item.cost for item in queue if isinstance(item, Data))

    # -- the link's threads ----------------------------------------------------------------------

    def first(self, item: Plain | Ack) -> None:
        """Queue a pong or an acknowledgement, ahead of everything else of ours."""
        with self._lock:
            self._first.append(item)
            self._notify()

    def engine(self, packet: EnginePacket) -> None:
        """Queue a packet of the Engine.IO client."""
        with self._lock:
            self._engine.append(packet)
            self._notify()

    def use_express(self, express: Callable[[Item], bool] | None) -> None:
        """Let the core thread hand single events to the system itself while nothing is queued.

        Args:
            express: writes an item if that cannot block, and tells whether it did. It saves the
                wake-up of another thread, which is a tenth of a keystroke's way.
        """
        with self._lock:
            self._express = express

    def open(self) -> None:
        """Let events out: the namespace is connected."""
        with self._lock:
            self._is_open = True
            self.last_sent_s = now_s()
            self._notify()

    def close(self) -> None:
        """Throw away what belonged to this connection."""
        with self._lock:
            self._is_open = self._in_hand = False
            self._express = None
            for queue in (self._engine, self._first, self._control, self._finals):
                queue.clear()
            self._sessions.clear()

    def answers_waiting(self) -> int:
        """Return how many answers wait; a peer that asks faster than it listens is not read."""
        return len(self._first) + len(self._control)

    def is_idle(self) -> bool:
        """Is everything handed to the system?"""
        with self._lock:
            return self._is_quiet()

    def take(self, timeout_s: float = -1) -> Item | None:
        """Wait for the next item; None when `timeout_s` went by without one."""
        with self._lock:
            item = self._next()
            if item is not None:
                return item
            self._is_asleep = True
        self._wake.acquire(timeout=timeout_s)
        with self._lock:
            if self._is_asleep:
                self._is_asleep = False
            else:
                # Released after the time was up: hold it again, for the next sleep.
                self._wake.acquire(blocking=False)
            return self._next()

    def sent(self, item: Item) -> None:
        """Tell that an item has been handed to the system."""
        self._in_hand = False
        if isinstance(item, EnginePacket):
            return
        self.last_sent_s = now_s()
        if self.on_drained is not None and isinstance(item, Data):
            self.on_drained(item.session, item.cost)

    # -- inside ----------------------------------------------------------------------------------

    def _is_quiet(self) -> bool:
        """Is nothing queued, and nothing being written?"""
        if self._in_hand or self._is_express_busy or self._engine or self._sessions:
            return False
        return not (self._first or self._control or self._finals or self._slots)

    def _queue_data(self, item: Data) -> None:
        queue = self._sessions.get(item.session)
        if queue is None:
            queue = self._sessions[item.session] = deque()
        queue.append(item)
        self._notify()

    def _notify(self) -> None:
        if self._is_asleep and not self._is_express_busy:
            self._is_asleep = False
            self._wake.release()

    def _next(self) -> Item | None:
        item = self._pop()
        if item is not None:
            self._in_hand = True
        return item

    def _pop(self) -> Item | None:
        if self._is_express_busy:
            return None
        if self._engine:
            return self._engine.popleft()
        if not self._is_open:
            return None
        for queue in (self._first, self._control, self._finals):
            if queue:
                return queue.popleft()
        if self._slots:
            return self._slots.pop(next(iter(self._slots)))
        return self._turn() if self._sessions else None

    def _turn(self) -> Item:
        """Take one event of the session whose turn it is, and put that session last."""
        session = next(iter(self._sessions))
        queue = self._sessions.pop(session)
        item = queue.popleft()
        if queue:
            self._sessions[session] = queue
        return item
