"""The agent's own log, followed, and directory listings.

Rules: at most four tails and eight listings at a time; both are for whoever listens now, so that
they end with the link, and are not stored. Source: contract 1.2 and 1.6, `log_tail_*`,
`dir_list_*`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from agent.pool import Pool
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire.files import (
    DirEntry,
    DirListRequest,
    DirListResponse,
    LogTailClosed,
    LogTailOutput,
    LogTailStart,
    LogTailStop,
)
from wire.limits import LOG_TAIL_LINES_DEFAULT, LOG_TAIL_LINES_MAX
from workers.messages import (
    End,
    Hello,
    Listed,
    ListingSpec,
    Result,
    TailEnded,
    TailSpec,
    TailText,
    ToAgent,
)

MAX_TAILS = 4
MAX_LISTINGS = 8
MAX_QUEUED_BYTES = 256 << 10
LEASE_S = 2.0
# A tail's name in the send queue: a shell may be called like it.
TURN = "tail\n"


class Files:
    """The family; see the module.

    Args:
        log_path: of the agent's own log.
        judge_tail, judge_listing: why one is refused, or None.
        roots: directories that a listing must lie in, as `policy_roots.holds` takes them.
    """

    def __init__(
        self,
        pool: Pool,
        uplink: Uplink,
        log_path: str,
        judge_tail: Callable[[], str | None],
        judge_listing: Callable[[str], str | None],
        roots: Callable[[], list[list[str]]],
    ) -> None:
        self._pool = pool
        self._uplink = uplink
        self._log_path = log_path
        self._judge_tail = judge_tail
        self._judge_listing = judge_listing
        self._roots = roots
        self._tails: dict[str, Worker] = {}
        self._sessions: dict[str, str] = {}  # job id -> tail session
        self._queued: dict[str, int] = {}
        self._listings: dict[str, DirListRequest] = {}

    def on_tail_start(self, message: LogTailStart) -> None:
        """Follow the log; a second start on a live session is ignored."""
        if message.session in self._tails:
            return
        refused = self._judge_tail()
        if refused is None and len(self._tails) >= MAX_TAILS:
            refused = "busy"
        if refused is not None:
            self.refuse_tail(message.session, refused)
            return
        lines = LOG_TAIL_LINES_DEFAULT if message.lines is None else message.lines
        spec = TailSpec(path=self._log_path, lines=min(max(lines, 1), LOG_TAIL_LINES_MAX))
        self._follow(message.session, spec)

    def on_tail_stop(self, message: LogTailStop) -> None:
        """Stop following; an unknown session is nothing."""
        worker = self._tails.get(message.session)
        if worker is not None:
            worker.send(End(reason="stopped"))

    def on_list(self, message: DirListRequest) -> None:
        """List one directory."""
        refused = "bad_mode" if message.mode != "local" else self._judge_listing(message.path)
        if refused is None and len(self._listings) >= MAX_LISTINGS:
            refused = "busy"
        if refused is not None:
            self.refuse_listing(message, refused)
            return
        spec = ListingSpec(path=message.path, roots=self._roots())
        key = f"{message.request_id}-{secrets.token_hex(4)}"
        worker = self._pool.spawn("listing", key, spec, self, {}, lease_s=LEASE_S, durable=False)
        self._listings[worker.record.job_id] = message

    def refuse_tail(self, session: str, reason: str) -> None:
        """Answer a start that did not become a tail; a live one of that name is left alone."""
        if session not in self._tails:
            self._close_tail(session, reason)

    def refuse_listing(self, message: DirListRequest, error: str) -> None:
        """Answer a listing that does not take place."""
        self._answer(message, Listed(error=error))

    def on_link_down(self) -> None:
        """Nobody listens any more."""
        for worker in self._tails.values():
            worker.send(End(reason="link_lost"))
        self._queued.clear()

    def on_drained(self, turn: str, cost: int) -> None:
        """That much of a tail has left our send queue."""
        session = turn.removeprefix(TURN)
        if session != turn and session in self._queued:
            self._queued[session] -= cost

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """Nothing to tell it."""

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """They have no stream."""

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """New lines of the log; what a slow reader does not take is left out and counted."""
        session = self._sessions.get(worker.record.job_id)
        if session is None or not isinstance(message, TailText):
            return
        queued = self._queued.get(session, 0)
        if queued > MAX_QUEUED_BYTES:
            return
        cost = len(message.data)
        self._queued[session] = queued + cost
        event = LogTailOutput(session=session, data=message.data, ts=_now())
        self._uplink.data(TURN + session, event, cost)

    def on_finished(self, worker: Worker, result: Result) -> None:
        """A listing is there, or a tail has ended."""
        self._pool.release(worker)
        if isinstance(result, TailEnded) and result.reason == "rotated":
            self._go_on(worker)
        else:
            self._end(worker, result)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead."""
        self._pool.drop_record(worker.record.job_id)
        error = "timeout" if gone.reason in ("worker_stalled", "stalled_io") else gone.reason
        self._end(worker, Listed(error=error))

    def _follow(self, session: str, spec: TailSpec) -> None:
        worker = self._pool.spawn("tail", session, spec, self, {}, lease_s=LEASE_S, durable=False)
        self._tails[session] = worker
        self._sessions[worker.record.job_id] = session

    def _go_on(self, worker: Worker) -> None:
        """A confined tail cannot open the file that took the log's place: begin again there."""
        session = self._sessions.pop(worker.record.job_id, None)
        if session is not None:
            self._follow(session, TailSpec(path=self._log_path, from_start=True))

    def _end(self, worker: Worker, result: Result) -> None:
        job_id = worker.record.job_id
        request = self._listings.pop(job_id, None)
        if request is not None:
            listed = result if isinstance(result, Listed) else Listed(error="failed")
            self._answer(request, listed)
        session = self._sessions.pop(job_id, None)
        if session is not None:
            self._tails.pop(session, None)
            self._queued.pop(session, None)
            ended = result.reason if isinstance(result, TailEnded) else "worker_died"
            self._close_tail(session, ended)

    def _close_tail(self, session: str, reason: str) -> None:
        """Say that a tail has ended, after what it still has queued."""
        closed = LogTailClosed(session=session, reason=reason, ts=_now())
        self._uplink.data(TURN + session, closed, 0)

    def _answer(self, request: DirListRequest, listed: Listed) -> None:
        entries = tuple(
            DirEntry(name=e.name, type="dir" if e.is_dir else "file", size=e.size)
            for e in listed.entries
        )
        self._uplink.control(
            DirListResponse(
                client_id=request.client_id,
                request_id=request.request_id,
                mode=request.mode,
                path=request.path,
                entries=entries,
                error=listed.error,
                truncated=listed.truncated or None,
            )
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
