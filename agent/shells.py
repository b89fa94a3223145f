"""Shell sessions: from `shell_start` to the one `shell_closed`.

Rules: a live session is never started twice; every refusal is a `shell_closed`; the final follows
the last output and is stored before the worker may forget it; what a worker reads ahead is bounded
by credit, the hub's where it has the feature, else what has left our own send queue.
Source: contract 1.2, 1.3, 1.7 (`credit`, `resume`, `base64`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from agent.limits import Place, Slots
from agent.log import Log
from agent.pool import Pool
from agent.shell_flow import Flow
from agent.shell_remains import Remains
from agent.shell_session import Session, closed, insist, lost, spec_of
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire import features
from wire.connect import JobState
from wire.limits import MAX_SAFE_INTEGER
from wire.reasons import BusyDetail, Reason
from wire.shell import (
    ShellAck,
    ShellClose,
    ShellClosed,
    ShellCredit,
    ShellInput,
    ShellResize,
    ShellResume,
    ShellStart,
)
from workers.jobs import JobRecord, Spool
from workers.loop import Loop, Timer
from workers.messages import (
    End,
    Gap,
    Hello,
    Resize,
    Result,
    ShellEnded,
    ShellSpec,
    ToAgent,
)

CLOSE_PATIENCE_S = 3.0
RESTART_PATIENCE_S = 1.0
# How long the last output of a session that was ended may wait for its reader's credit.
LAST_OUTPUT_S = 1.0


class Shells:
    """The family; see the module.

    Args:
        slots: shared with commands.
        admit: why a start is refused: (reason, detail), or None.
        make_spec: the machine's shell for this request.
    """

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        uplink: Uplink,
        slots: Slots,
        admit: Callable[[], tuple[str, str | None] | None],
        make_spec: Callable[[ShellStart], tuple[ShellSpec, str | None]],
        detached_timeout_s: float,
        log: Log,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._uplink = uplink
        self._slots = slots
        self._admit = admit
        self._make_spec = make_spec
        self._detached_timeout_s = detached_timeout_s
        self._log = log
        self._sessions: dict[str, Session] = {}
        self._by_worker: dict[str, Session] = {}
        self._detached: Timer | None = None

    def on_start(self, message: ShellStart) -> None:
        """Open a session, or refuse it with a `shell_closed`."""
        if message.session in self._sessions:
            self._log.warning("shell_start on a live session ignored")
            return
        refused = self._admit()
        if refused is not None:
            self.refuse(message.session, *refused)
            return
        place = self._slots.take()
        if place is None:
            self.refuse(message.session, Reason.BUSY, BusyDetail.MAX_CONCURRENT)
            return
        spec, run_as = self._make_spec(message)
        self._open(message.session, spec, run_as, place)

    def on_input(self, message: ShellInput) -> None:
        """Type into a session; an unknown one is nothing."""
        session = self._sessions.get(message.session)
        if session is not None and session.ended is None:
            session.worker.send_data(message.data.encode())

    def on_resize(self, message: ShellResize) -> None:
        """Change a session's size."""
        session = self._sessions.get(message.session)
        if session is not None and session.ended is None:
            session.worker.send(Resize(cols=message.cols, rows=message.rows))

    def on_close(self, message: ShellClose) -> None:
        """End a session's whole process tree."""
        self.end(message.session, Reason.CLOSED)

    def on_credit(self, message: ShellCredit) -> None:
        """The consumer takes more."""
        session = self._sessions.get(message.session)
        if session is not None:
            session.flow.credit(message.bytes)

    def on_ack(self, message: ShellAck) -> None:
        """The consumer has everything below an offset."""
        session = self._sessions.get(message.session)
        if session is not None:
            session.flow.ack(message.offset)

    def on_resume(self, message: ShellResume) -> None:
        """Send again from an offset."""
        session = self._sessions.get(message.session)
        if session is not None and features.RESUME in self._uplink.features:
            session.flow.replay(min(message.offset, session.flow.seen))
            self._after_flow(session)

    def end(self, key: str, reason: str) -> None:
        """End a session for a reason; unknown or ended already: nothing."""
        session = self._sessions.get(key)
        if session is None or session.ended is not None:
            return
        worker = session.worker
        worker.send(End(reason=reason))
        self._loop.call_later(CLOSE_PATIENCE_S, lambda: insist(worker, reason))

    def end_all(self, reason: str) -> None:
        """End every session."""
        for key in list(self._sessions):
            self.end(key, reason)

    def refuse(self, key: str, reason: str, detail: str | None = None) -> None:
        """Answer a start that did not become a session; a live one of that name is left alone."""
        if key in self._sessions:
            return
        final = ShellClosed(session=key, reason=reason, detail=detail)
        self._uplink.final(final, f"refused-{secrets.token_hex(8)}")

    def refuse_malformed(self, key: str, detail: str) -> None:
        """Answer a `shell_start` that is none."""
        self.refuse(key, Reason.BAD_REQUEST, detail)

    def on_link_up(self) -> None:
        """Let output go on: at once to a server that cannot say from where, else when it asks."""
        if self._detached is not None:
            self._detached.cancel()
            self._detached = None
        for session in self._sessions.values():
            self._attach(session)

    def on_link_down(self) -> None:
        """Stop sending; the terminals go on into their rings."""
        for session in self._sessions.values():
            session.flow.halt()
        self._count_detached()

    def on_drained(self, key: str, cost: int) -> None:
        """That much of a session's output has left our send queue."""
        session = self._sessions.get(key)
        if session is not None:
            session.flow.drained(cost)

    def states(self) -> list[JobState]:
        """For the CONNECT packet: what this endpoint still has."""
        return [
            JobState(
                id=session.key,
                kind="shell",
                state="running" if session.ended is None else "finished",
                offset=session.flow.offset,
            )
            for session in self._sessions.values()
            if not session.finished
        ]

    def restart(self, worker_id: str) -> bool:
        """Give a session a new terminal under the same name; told in its output."""
        session = next((s for s in self._sessions.values() if s.worker.id == worker_id), None)
        if session is None or session.ended is not None or session.restarting:
            return False
        session.restarting = True
        self.end(session.key, "restart")
        return True

    def adopt(self, worker: Worker, record: JobRecord) -> None:
        """Go on with a session of an earlier agent."""
        spec = spec_of(record)
        place = self._slots.force()
        session = self._register(record.key, spec, record.wire.get("run_as"), place, worker)
        session.flow.seen = MAX_SAFE_INTEGER  # its worker's Hello will tell
        if not self._uplink.is_up:
            self._count_detached()

    def recover(
        self, record: JobRecord, spool: Spool | None, on_stored: Callable[[], object]
    ) -> None:
        """Report a session whose worker did not outlive the agent's absence."""
        if spool is not None and isinstance(spool.result, ShellEnded):
            if spool.unread and record.key not in self._sessions:
                self._lay_out(record, spool, spool.result)
                return
            final = closed(record.key, spool.result)
        else:
            final = ShellClosed(session=record.key, reason=Reason.AGENT_RESTARTED)
        self._uplink.final(final, record.job_id, on_stored=on_stored)

    # What its workers say.

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """A worker is there; one that was adopted goes on where its reader left off."""
        session = self._by_worker.get(worker.record.job_id)
        if session is None or not hello.started:
            return
        session.flow.on_hello(hello)
        if session.flow.is_on:
            self._after_flow(session)
        elif self._uplink.is_up:
            self._attach(session)

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """Output of the terminal: into events, and on."""
        session = self._by_worker.get(worker.record.job_id)
        if session is not None and session.flow.is_on:
            session.flow.take(offset, data)
            self._close_if_told(session)

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """A gap in the output."""
        session = self._by_worker.get(worker.record.job_id)
        if session is not None and session.flow.is_on and isinstance(message, Gap):
            session.flow.take_gap(message.start, message.end)
            self._close_if_told(session)

    def on_finished(self, worker: Worker, result: Result) -> None:
        """The terminal has ended; its `shell_closed` follows the last output."""
        session = self._by_worker.get(worker.record.job_id)
        if session is None or not isinstance(result, ShellEnded):
            self._pool.release(worker)
            return
        session.ended = result
        if session.restarting:
            self._loop.call_later(RESTART_PATIENCE_S, lambda: self._renew(session, worker))
        else:
            session.place.release()
        self._close_if_told(session)
        self._limit_last_output(session)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead: so is the session, unless it was to be restarted."""
        session = self._by_worker.pop(worker.record.job_id, None)
        if session is None:
            return
        if session.restarting and gone.reason == "restart":
            session.ended = ShellEnded(reason="restart", offset=session.flow.offset)
            self._renew(session, worker)
            return
        session.place.release()
        session.ended = ShellEnded(
            reason=gone.reason, signal=gone.signal, code=gone.code, detail=gone.detail
        )
        self._finish(session, lost(session.key, gone))

    # Inside.

    def _open(self, key: str, spec: ShellSpec, run_as: str | None, place: Place) -> None:
        worker = self._spawn(key, spec, run_as)
        session = self._register(key, spec, run_as, place, worker)
        session.flow.is_on = True
        session.flow.begin(worker, spec.first_offset)

    def _lay_out(self, record: JobRecord, spool: Spool, ended: ShellEnded) -> None:
        """Say what nobody has read yet, when there is a link, and only then how it ended."""
        remains = Remains(self._loop, record, self, spool)
        place = self._slots.force()
        place.release()  # nothing runs
        session = self._register(record.key, spec_of(record), None, place, remains)
        session.ended = ended
        session.flow.start_at(spool.offset, seen=ended.offset)
        if self._uplink.is_up:
            self._attach(session)

    def _spawn(self, key: str, spec: ShellSpec, run_as: str | None) -> Worker:
        wire: dict[str, Any] = {
            "argv": spec.argv,
            "env": spec.env,
            "cwd": spec.cwd,
            "run_as": run_as,
        }
        lease_s = self._detached_timeout_s
        return self._pool.spawn(
            "shell", key, spec, self, wire, run_as=run_as, lease_s=lease_s, durable=False
        )

    def _register(
        self, key: str, spec: ShellSpec, run_as: str | None, place: Place, worker: Worker
    ) -> Session:
        flow = Flow(self._loop, self._uplink, worker, key, spec.first_offset)
        session = Session(key, spec, run_as, place, flow)
        self._sessions[key] = session
        self._by_worker[worker.record.job_id] = session
        return session

    def _attach(self, session: Session) -> None:
        if not session.finished:
            session.flow.attach(lambda: self._after_flow(session))
            self._after_flow(session)

    def _after_flow(self, session: Session) -> None:
        self._close_if_told(session)
        self._limit_last_output(session)

    def _close_if_told(self, session: Session) -> None:
        """The final goes to the outbox once everything before it is in the send queue."""
        if session.ended is not None and session.may_close():
            session.flow.flush()
            self._finish(session, closed(session.key, session.ended))

    def _limit_last_output(self, session: Session) -> None:
        """Who had a session ended need not read on for its `shell_closed`."""
        if session.ended is None or session.ended.reason == Reason.EXIT or session.finished:
            return

        def cut_off() -> None:
            if session.ended is not None and session.flow.is_on and not session.finished:
                session.flow.skip_to(session.ended.offset)
                self._close_if_told(session)

        self._loop.call_later(LAST_OUTPUT_S, cut_off)

    def _finish(self, session: Session, final: ShellClosed) -> None:
        if session.finished:
            return
        session.finished = True
        worker = session.worker

        def stored() -> None:
            if worker.state == "EXITED":
                self._pool.drop_record(worker.record.job_id)
            else:
                self._pool.release(worker)
            self._by_worker.pop(worker.record.job_id, None)
            if self._sessions.get(session.key) is session:
                del self._sessions[session.key]

        self._uplink.final(final, worker.record.job_id, after=session.key, on_stored=stored)

    def _renew(self, session: Session, old: Worker) -> None:
        """The second half of a restart: a new terminal where the old one's output ended."""
        if not session.restarting or session.worker is not old:
            return
        ended, session.ended, session.restarting = session.ended, None, False
        flow = session.flow
        if flow.is_on:
            flow.flush()
        end = max(flow.seen, ended.offset if ended is not None else 0)
        if flow.is_on and flow.fed < end:
            flow.skip_to(end)
        self._by_worker.pop(old.record.job_id, None)
        if old.state == "EXITED":
            self._pool.drop_record(old.record.job_id)
        else:
            self._pool.release(old)
        notice = b"\r\n[jackline: this shell was restarted by an administrator]\r\n"
        spec = session.renewed_spec(end, notice)
        worker = self._spawn(session.key, spec, session.run_as)
        self._by_worker[worker.record.job_id] = session
        flow.begin(worker, end)

    def _count_detached(self) -> None:
        """The time without a link begins, if it has not begun yet."""
        if self._detached is None:
            self._detached = self._loop.call_later(self._detached_timeout_s, self._on_detached)

    def _on_detached(self) -> None:
        """No link for so long: nobody will come back for these."""
        self._detached = None
        for session in list(self._sessions.values()):
            if session.ended is None:
                self.end(session.key, Reason.DETACHED_TIMEOUT)
