"""Final events: stored before they are sent, sent until they have arrived.

A final is committed by the writer's thread, then put into the link's queue, then forgotten when it
has arrived: with `ack` when its acknowledgement comes, without when the engine's next ping confirms
it (agent/confirmations.py). What had not arrived when a link ended is sent again on the next,
oldest first: exactly once in effect with `ack`, whose peer knows each `id`; at least once without.

Rules: core thread only. While the disk takes nothing, `is_full` is true (the families then refuse
new jobs), finals wait in memory, are sent from there, and are stored as soon as it goes again;
their `on_stored` is called when they are safe, be it on the disk or at the server. An event that is
alone on a connection that ends within 2 s of its sending, five times, or that the server refuses
by name, is parked: it stays in the file and a short form of it is sent instead.

Source: architecture "Outbox"; contract 1.1, 1.4, 1.7; fault cases C.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.clock import wall_ms
from agent.errors import LinkError, OutboxError
from agent.outbox_flights import Flights, Record
from agent.outbox_store import Draft, Entry, Store, is_for_want_of_space
from agent.outbox_writer import OutboxWriter
from agent.outgoing import Outgoing
from wire import limits
from wire.errors import WireError
from wire.events import Direction, ToServer, decode
from wire.shorten import encode_within
from workers.loop import Loop, Timer

if TYPE_CHECKING:
    from agent.log import Log

MAX_BYTES = 64 * limits.MIB
# Results are kept for seven days so that a repeated request gets the same answer; beyond this the
# oldest are kept in short form.
MAX_RESULT_BYTES = 64 * limits.MIB
MAX_STRIKES = 5
NOTICE_BYTES = 2 * limits.KIB
RETRY_S = 5.0
PRUNE_S = 6 * 3600.0


@dataclass(frozen=True)
class OutboxStatus:
    """For `status`: finals that wait, bytes of all, parked ones; is there no room for more?

    `oldest_s` is the age of the oldest one on the disk, None where there is none.
    """

    waiting: int
    bytes: int
    parked: int
    is_full: bool
    oldest_s: float | None = None


class Outbox:
    """See the module.

    Args:
        path: the database, in the state directory.
        loop: the core thread's.
        log: where trouble is told.
        on_full: called with True when nothing can be stored, with False when it can again.

    Raises:
        OutboxError: the file cannot be opened, and could not be replaced.
    """

    def __init__(
        self, path: Path, loop: Loop, log: Log, on_full: Callable[[bool], object] | None = None
    ) -> None:
        self._path = path
        self._loop = loop
        self._log = log
        self._on_full = on_full
        self._store = _store_of(path)
        if self._store.moved_aside is not None:
            self._tell_moved(self._store.moved_aside)
        self._writer = OutboxWriter(path, loop, self._on_trouble)
        self._waiting, self._bytes, self._parked = self._store.totals()
        self._flights = Flights(
            loop,
            self._writer.submit,
            self._arrived,
            self._struck,
            self._park,
            self._store.last_seq(),
        )
        self._unstored: dict[str, Record] = {}
        self._being_stored = 0
        self._retry: Timer | None = None
        self.is_full = False

    def start(self) -> None:
        """Start the writer's thread."""
        self._writer.start()
        if self._store.is_stand_in:
            self._log.error("the outbox cannot be opened: the disk takes nothing")
            self._tell_full(True)
            self._loop.call_later(RETRY_S, self._open_again)
        self._prune()

    def close(self, timeout_s: float = 5.0) -> None:
        """Commit what was handed in, and let go of the file."""
        self._writer.close(timeout_s)
        self._store.close()

    def final(
        self,
        message: ToServer,
        key: str,
        after: str | None = None,
        on_stored: Callable[[], object] | None = None,
        digest: str | None = None,
    ) -> None:
        """Store a final event, then send it until it has arrived.

        Args:
            message: a row of FINAL_EVENTS.
            key: the job's id; a second final for it is dropped.
            after: the session whose queued output goes first.
            on_stored: called once it cannot be lost any more.
            digest: of the request; with it the result is kept under the message's `job_id`.
        """
        try:
            event, payload = encode_within(message, limits.MAX_EVENT_BYTES)
        except WireError as error:
            self._log.error("final event cannot be written", event=error.event, why=error.detail)
            if on_stored is not None:
                self._loop.call_soon(on_stored)
            return
        record = Record(
            id=secrets.token_hex(12),
            key=key,
            after=after,
            event=event,
            payload=payload,
            message=message,
            on_stored=on_stored,
            job_id=getattr(message, "job_id", None) if digest is not None else None,
            digest=digest,
        )
        self._hand_in(record)

    def find(self, job_id: str) -> tuple[str, Any] | None:
        """Give the digest of a job's request and its result, if it ended in the last 7 days."""
        try:
            found = self._store.find_result(job_id)
            if found is None:
                return None
            digest, event, payload = found
            return digest, decode(Direction.TO_SERVER, event, payload)
        except (sqlite3.Error, WireError) as error:
            self._log.error("a kept result cannot be read", error=str(error))
            return None

    def has(self, key: str) -> bool:
        """Was a final for this job ever stored, delivered or not?"""
        try:
            return self._store.has_seen(key)
        except sqlite3.Error as error:
            self._log.error("the outbox cannot be read", error=str(error))
            return False

    def entries(self) -> list[Entry]:
        """List what is kept to be sent, oldest first."""
        return self._store.entries()

    def flush(self) -> int:
        """Give parked finals another chance, on the next connection; return how many wait."""
        revived = self._parked
        self._parked, self._waiting = 0, self._waiting + revived
        self._writer.submit(lambda store: store.unpark())
        return self._waiting

    def status(self) -> OutboxStatus:
        """Tell what is kept."""
        waiting = self._waiting + self._being_stored + len(self._unstored)
        return OutboxStatus(waiting, self._bytes, self._parked, self.is_full, self._oldest_s())

    def _oldest_s(self) -> float | None:
        try:
            stored_ms = self._store.oldest_ms()
        except sqlite3.Error as error:
            self._log.error("the outbox cannot be read", error=str(error))
            return None
        return None if stored_ms is None else max(0.0, (wall_ms() - stored_ms) / 1000.0)

    # -- the link --------------------------------------------------------------------------------

    def on_settled(
        self, outgoing: Outgoing, features: frozenset[str] | None, event_limit: int
    ) -> None:
        """Send what waits: the peer said hello, or kept silent long enough to be foreign."""
        self._flights.open(outgoing, features, event_limit, list(self._unstored.values()))

    def on_down(self, error: LinkError) -> None:
        """The connection is gone, and with it whatever had not arrived."""
        self._flights.close(error)

    def on_written(self, ticket: int) -> None:
        """A final has been handed to the system."""
        self._flights.written(ticket)

    def on_arrived(self, tickets: list[int]) -> None:
        """Finals were acknowledged or confirmed."""
        self._flights.arrived(tickets)

    def on_refused(self, ticket: int, reason: str) -> None:
        """The server refuses a final by name."""
        self._flights.refused(ticket, reason)

    # -- storing ---------------------------------------------------------------------------------

    def _hand_in(self, record: Record) -> None:
        if self._bytes + len(record.payload) > MAX_BYTES:
            self._failed(record, OutboxError(f"over {MAX_BYTES} bytes wait to be sent"))
            return
        self._bytes += len(record.payload)
        self._being_stored += 1
        draft = Draft(
            record.id,
            record.key,
            record.after,
            record.event,
            record.payload,
            record.job_id,
            record.digest,
        )

        def failed(error: Exception) -> None:
            self._being_stored -= 1
            self._bytes -= len(record.payload)
            self._failed(record, error)

        self._writer.add(draft, lambda seq: self._added(record, seq), failed)

    def _added(self, record: Record, seq: int | None) -> None:
        self._being_stored -= 1
        self._unstored.pop(record.id, None)
        if not self._unstored and self.is_full:
            self._tell_full(False)
        if seq is None:
            self._bytes -= len(record.payload)
            self._log.info("second final for a job dropped", event=record.event)
        else:
            record.seq = seq
            self._waiting += 1
        record.tell_stored()
        if record.has_arrived and seq is not None:
            self._forget(record)
        elif seq is not None:
            self._flights.stored(record)

    def _failed(self, record: Record, error: Exception) -> None:
        is_new = record.id not in self._unstored
        self._unstored[record.id] = record
        if not self.is_full:
            self._log.error("final events cannot be stored", error=str(error))
            self._tell_full(True)
        if self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._try_again)
        if is_new:
            self._flights.volatile(record)

    def _try_again(self) -> None:
        self._retry = None
        for record in list(self._unstored.values()):
            self._hand_in(record)

    def _tell_full(self, is_full: bool) -> None:
        self.is_full = is_full
        if not is_full:
            self._log.info("final events can be stored again")
        if self._on_full is not None:
            self._on_full(is_full)

    def _open_again(self) -> None:
        """Take the file itself, once the disk lets it be opened."""
        try:
            store = Store(self._path)
        except OutboxError:
            self._loop.call_later(RETRY_S, self._open_again)
            return
        self._store.close()
        self._store = store
        if not self._unstored:
            self._tell_full(False)
        self._flights.arrived([])  # what waits in the file may be read now

    # -- the end of a record ---------------------------------------------------------------------

    def _arrived(self, record: Record) -> None:
        record.has_arrived = True
        if record.seq is None:
            # Not on the disk, and no longer needed there.
            self._unstored.pop(record.id, None)
            record.tell_stored()
            if not self._unstored and self.is_full and not self._store.is_stand_in:
                self._tell_full(False)
            return
        self._forget(record)

    def _forget(self, record: Record) -> None:
        self._waiting -= 1
        self._bytes -= len(record.payload)
        self._writer.remove(record.id)

    def _struck(self, record: Record) -> None:
        def counted(strikes: int | None) -> None:
            if strikes is not None and strikes >= MAX_STRIKES:
                self._park(record, "the connection ended after it five times")

        self._writer.submit(lambda store: store.strike(record.id), counted)

    def _park(self, record: Record, reason: str) -> None:
        self._log.error("final event parked", event=record.event, id=record.id, why=reason)
        if record.seq is None:
            self._arrived(record)
            return
        self._waiting -= 1
        self._parked += 1
        self._writer.submit(lambda store: store.park(record.id, reason))
        self._send_notice(record)

    def _send_notice(self, record: Record) -> None:
        if record.key.startswith("notice-"):
            return
        try:
            message = record.read()
            _, payload = encode_within(message, NOTICE_BYTES)
            short = decode(Direction.TO_SERVER, record.event, payload)
        except WireError:
            return  # its family has no short form
        self.final(replace(short, id=None), f"notice-{record.id}", record.after)

    # -- upkeep ----------------------------------------------------------------------------------

    def _prune(self) -> None:
        self._writer.submit(_prune)
        self._loop.call_later(PRUNE_S, self._prune)

    def _on_trouble(self, trouble: Exception | Path) -> None:
        if isinstance(trouble, Exception):
            self._log.error("outbox trouble", error=str(trouble))
            return
        self._tell_moved(trouble)
        self._store.close()
        self._store = Store(self._path)
        self._waiting, self._bytes, self._parked = self._store.totals()

    def _tell_moved(self, moved_to: Path) -> None:
        sentence = "the outbox was damaged; what it held is moved aside and will not be sent"
        self._log.error(sentence, moved_to=str(moved_to))


def _store_of(path: Path) -> Store:
    """Open the file; on a full disk what can be read of it, so that the link need not wait."""
    try:
        return Store(path)
    except OutboxError as error:
        if not is_for_want_of_space(error):
            raise
        return Store.stand_in(path)


def _prune(store: Store) -> None:
    store.prune(wall_ms())
    for job_id, event, payload in store.oldest_results(MAX_RESULT_BYTES):
        try:
            message = decode(Direction.TO_SERVER, event, payload)
            store.shorten_result(job_id, encode_within(message, NOTICE_BYTES)[1])
        except WireError:
            continue
