"""Which finals are on their way over the link of the moment, and what its end says about them.

Rules: core thread only; in the order of `seq`; a stretch of finals is never ahead of the link by
more than WINDOW_BYTES; after a connection that ended within 2 s of several finals they go one at a
time, each alone until it has arrived or 2 s have passed, so that the one to blame is known.

Source: architecture "Outbox".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from agent.errors import LinkError
from agent.outbox_store import Row, Store
from agent.outgoing import Final, Outgoing
from wire import features as f
from wire import limits
from wire.errors import WireError
from wire.events import Direction, ToServer, decode
from wire.peers import for_peer
from wire.shorten import encode_within
from workers.loop import Loop

WINDOW_BYTES = 512 * limits.KIB
BLAME_S = 2.0
_ROWS = 32
# How a link ends that the other side ended.
_BY_PEER = frozenset({"closed", "server_closed", "server_disconnect"})


@dataclass(eq=False, kw_only=True)
class Record:
    """One final; `seq` is None until it is stored, `message` while it is only in the file."""

    id: str
    key: str
    after: str | None
    event: str
    payload: bytes
    message: ToServer | None = None
    on_stored: Callable[[], object] | None = None
    job_id: str | None = None
    digest: str | None = None
    seq: int | None = None
    has_arrived: bool = False
    written_s: float | None = None

    def tell_stored(self) -> None:
        """Call `on_stored`, once."""
        on_stored, self.on_stored = self.on_stored, None
        if on_stored is not None:
            on_stored()

    def read(self) -> ToServer:
        """Give the message.

        Raises:
            WireError: the file holds something else.
        """
        if self.message is not None:
            return self.message
        return decode(Direction.TO_SERVER, self.event, self.payload)


Submit = Callable[[Callable[[Store], Any], Callable[[Any], object]], object]
OnRecord = Callable[[Record], object]


class Flights:
    """See the module.

    Args:
        loop: the core thread's.
        submit: runs something on the store in the writer's thread, then a callback here.
        on_arrived: a record has arrived.
        on_struck: a connection ended while this record alone was fresh on it.
        on_unsendable: a record must be parked, with the reason.
        last_seq: the newest record of the file.
    """

    def __init__(
        self,
        loop: Loop,
        submit: Submit,
        on_arrived: OnRecord,
        on_struck: OnRecord,
        on_unsendable: Callable[[Record, str], object],
        last_seq: int,
    ) -> None:
        self._loop = loop
        self._submit = submit
        self._on_arrived = on_arrived
        self._on_struck = on_struck
        self._on_unsendable = on_unsendable
        self._last_seq = last_seq
        self._sent_upto = 0
        self._tickets = itertools.count(1)
        self._in_flight: dict[int, Record] = {}
        self._unwritten_bytes = 0
        self._finished: dict[str, None] = {}
        self._outgoing: Outgoing | None = None
        self._features: frozenset[str] | None = None
        self._limit = limits.MAX_EVENT_BYTES
        self._link = 0
        self._is_reading = False
        self._careful_upto = 0

    # -- the link --------------------------------------------------------------------------------

    def open(
        self,
        outgoing: Outgoing,
        features: frozenset[str] | None,
        event_limit: int,
        unstored: list[Record],
    ) -> None:
        """Begin with a link; a second hello on the same one changes what may be said."""
        self._features = features
        self._limit = event_limit
        if self._outgoing is outgoing:
            return
        self._outgoing = outgoing
        self._link += 1
        self._sent_upto = 0
        self._is_reading = False
        self._pump()
        for record in unstored:
            self._send(record)

    def close(self, error: LinkError) -> None:
        """End with a link, and look for who is to blame."""
        if self._outgoing is None:
            return
        now = self._loop.clock()
        fresh = [
            record
            for record in self._in_flight.values()
            if record.written_s is not None and now - record.written_s <= BLAME_S
        ]
        self._outgoing = None
        self._in_flight.clear()
        self._unwritten_bytes = 0
        if error.reason not in _BY_PEER or not fresh:
            return
        if len(fresh) == 1:
            self._on_struck(fresh[0])
        self._careful_upto = self._last_seq

    def written(self, ticket: int) -> None:
        """A final has been handed to the system."""
        record = self._in_flight.get(ticket)
        if record is None or record.written_s is not None:
            return
        record.written_s = self._loop.clock()
        self._unwritten_bytes -= len(record.payload)
        if self._is_careful():
            link = self._link
            self._loop.call_later(BLAME_S, lambda: self._pump() if link == self._link else None)
        else:
            self._pump()

    def arrived(self, tickets: list[int]) -> None:
        """Finals were acknowledged or confirmed."""
        for ticket in tickets:
            record = self._in_flight.pop(ticket, None)
            if record is None:
                continue
            if record.written_s is None:
                self._unwritten_bytes -= len(record.payload)
            self._remember(record)
            self._on_arrived(record)
        self._pump()

    def refused(self, ticket: int, reason: str) -> None:
        """The server refuses a final by name."""
        record = self._in_flight.pop(ticket, None)
        if record is not None:
            if record.written_s is None:
                self._unwritten_bytes -= len(record.payload)
            self._on_unsendable(record, reason)
            self._pump()

    # -- the store -------------------------------------------------------------------------------

    def stored(self, record: Record) -> None:
        """A record has been committed; send it if nothing older waits."""
        assert record.seq is not None
        is_next = self._sent_upto >= self._last_seq and not self._is_reading
        self._last_seq = max(self._last_seq, record.seq)
        if self._outgoing is None:
            return
        is_flying = any(record is other for other in self._in_flight.values())
        if is_next and (is_flying or self._has_room()):
            self._sent_upto = record.seq
            if not is_flying:
                self._send(record)
        else:
            self._pump()

    def volatile(self, record: Record) -> None:
        """A record could not be stored; it is sent all the same."""
        if self._outgoing is not None:
            self._send(record)

    # -- inside ----------------------------------------------------------------------------------

    def _is_careful(self) -> bool:
        return self._sent_upto < self._careful_upto

    def _has_room(self) -> bool:
        if self._unwritten_bytes >= WINDOW_BYTES:
            return False
        if self._careful_upto == 0:
            return True
        now = self._loop.clock()
        return not any(
            record.written_s is None or now - record.written_s < BLAME_S
            for record in self._in_flight.values()
        )

    def _pump(self) -> None:
        """Read what comes next from the file, if there is room for it."""
        if self._outgoing is None or self._is_reading or not self._has_room():
            return
        if self._sent_upto >= self._last_seq:
            self._careful_upto = 0
            return
        self._is_reading = True
        link, upto, start = self._link, self._last_seq, self._sent_upto
        rows = 1 if self._careful_upto else _ROWS
        self._submit(
            lambda store: store.after(start, rows, WINDOW_BYTES),
            lambda found: self._on_rows(link, upto, found),
        )

    def _on_rows(self, link: int, upto: int, rows: list[Row] | None) -> None:
        if link != self._link or self._outgoing is None:
            return
        self._is_reading = False
        if rows is None:
            return  # the file is in trouble, which has been told; the next event tries again
        if not rows:
            self._sent_upto = max(self._sent_upto, upto)
        flying = {record.id for record in self._in_flight.values()}
        for row in rows:
            self._sent_upto = row.seq
            if row.id not in self._finished and row.id not in flying:
                self._send(_record(row))
        self._pump()

    def _send(self, record: Record) -> None:
        assert self._outgoing is not None
        try:
            message = record.read()
            allowed = for_peer(replace(message, id=record.id), self._features)
            if allowed is None:
                return  # not for this peer; another may come
            name, payload = encode_within(allowed, self._limit)
        except WireError as error:
            self._on_unsendable(record, error.detail)
            return
        ticket = next(self._tickets)
        record.written_s = None
        self._in_flight[ticket] = record
        self._unwritten_bytes += len(record.payload)
        has_ack = self._features is not None and f.ACK in self._features
        self._outgoing.final(Final(ticket, name, payload, has_ack), after=record.after)

    def _remember(self, record: Record) -> None:
        """Keep in mind what has arrived for as long as its removal may take."""
        self._finished[record.id] = None
        if len(self._finished) > 10_000:
            self._finished.pop(next(iter(self._finished)))


def _record(row: Row) -> Record:
    return Record(
        id=row.id,
        key=row.key,
        after=row.after,
        event=row.event,
        payload=row.payload,
        seq=row.seq,
    )
