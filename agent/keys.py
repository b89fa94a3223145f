"""Key sync: one `keys_sync_result` for each `sync_keys`.

Rules: one sync at a time, the others wait in line; the worker runs as the target user. Source:
contract 1.6.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from agent.limits import Place, Slots
from agent.pool import Pool
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire.keys import KeysSyncResult, SyncKeys
from workers.jobs import JobRecord, Spool
from workers.loop import Loop
from workers.messages import Hello, KeysEnded, KeysSpec, Result, ToAgent

LINE_S = 60.0
# What the pool says of a lost worker, in this family's words: name services that hang are a stall.
ERRORS = {"worker_stalled": "timeout", "stalled_io": "timeout", "resources": "busy"}


class KeySyncs:
    """The family; see the module.

    Args:
        judge: why a sync is refused, or None.
        make_spec: what to do for a login, and as which account (None: our own).
    """

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        uplink: Uplink,
        judge: Callable[[], str | None],
        make_spec: Callable[[str], tuple[KeysSpec, str | None]],
    ) -> None:
        self._pool = pool
        self._uplink = uplink
        self._judge = judge
        self._make_spec = make_spec
        self._line = Slots(loop, 1)
        self._places: dict[str, Place] = {}

    def on_sync(self, message: SyncKeys) -> None:
        """Sync a user's keys, or answer why not."""
        refused = self._judge()
        if refused is not None:
            self.refuse(message.user, refused)
            return
        size = len(message.user)
        if not self._line.may_wait(size):
            self.refuse(message.user, "busy")
            return
        self._line.wait(
            LINE_S,
            lambda place: self._start(message.user, place),
            lambda: self.refuse(message.user, "busy"),
            size,
        )

    def refuse(self, user: str, error: str, detail: str | None = None) -> None:
        """Answer a sync that does not take place."""
        result = KeysSyncResult(ok=False, user=user, added=0, ms=0, error=error, detail=detail)
        self._uplink.final(result, f"refused-{secrets.token_hex(8)}")

    def adopt(self, worker: Worker, record: JobRecord) -> None:
        """Wait for a sync of an earlier agent."""
        self._places[record.job_id] = self._line.force()

    def recover(
        self, record: JobRecord, spool: Spool | None, on_stored: Callable[[], object]
    ) -> None:
        """Report a sync whose worker did not outlive the agent's absence."""
        user = str(record.wire.get("user", ""))
        if spool is not None and isinstance(spool.result, KeysEnded):
            message = _result(user, spool.result)
        else:
            error = "unknown_outcome"
            message = KeysSyncResult(ok=False, user=user, added=0, ms=0, error=error)
        self._uplink.final(message, record.job_id, on_stored=on_stored)

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """Nothing to tell it."""

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """It has no stream."""

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """It says nothing but its result."""

    def on_finished(self, worker: Worker, result: Result) -> None:
        """Done, well or not."""
        if isinstance(result, KeysEnded):
            self._end(worker, _result(str(worker.record.wire.get("user", "")), result))
        else:
            self._pool.release(worker)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead; what it had written is whole, old or new."""
        user = str(worker.record.wire.get("user", ""))
        error = ERRORS.get(gone.reason, gone.reason)
        message = KeysSyncResult(
            ok=False, user=user, added=0, ms=0, error=error, detail=gone.detail
        )
        self._end(worker, message)

    def _start(self, user: str, place: Place) -> None:
        refused = self._judge()  # the machine may have been paused while it waited
        if refused is not None:
            place.release()
            self.refuse(user, refused)
            return
        spec, run_as = self._make_spec(user)
        key = f"{user}-{secrets.token_hex(4)}"
        wire = {"user": user}
        worker = self._pool.spawn("keys", key, spec, self, wire, run_as=run_as, lease_s=60.0)
        self._places[worker.record.job_id] = place

    def _end(self, worker: Worker, message: KeysSyncResult) -> None:
        job_id = worker.record.job_id
        place = self._places.pop(job_id, None)
        if place is not None:
            place.release()
        self._uplink.final(message, job_id, on_stored=lambda: self._pool.release(worker))


def _result(user: str, ended: KeysEnded) -> KeysSyncResult:
    return KeysSyncResult(
        ok=ended.ok,
        user=user,
        added=ended.added,
        ms=ended.duration_ms,
        error=ended.error,
        removed=ended.removed or None,
        rejected=ended.rejected or None,
        warn=ended.warn,
        detail=ended.detail,
    )
