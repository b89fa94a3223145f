"""Shell sessions: from `shell_start` to the one `shell_closed`.

Rules: a live session is never started twice; every refusal is a `shell_closed`; the final follows
the last output and is stored before the worker may forget it; what a worker reads ahead is bounded
by credit, the hub's where it has the feature, else what has left our own send queue.
Source: contract 1.2, 1.3, 1.7 (`credit`, `resume`, `base64`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.limits import Place, Slots
from agent.log import Log
from agent.pool import Pool
from agent.shell_session import Session, closed, lost, spec_of
from agent.stream_text import StreamText
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire import features
from wire.connect import JobState
from wire.limits import CREDIT_INITIAL_BYTES, MAX_SAFE_INTEGER
from wire.reasons import BusyDetail, Reason
from wire.shell import (
    ShellAck,
    ShellClose,
    ShellClosed,
    ShellCredit,
    ShellGap,
    ShellInput,
    ShellOutput,
    ShellResize,
    ShellResume,
    ShellStart,
)
from workers.jobs import JobRecord, Spool
from workers.loop import Loop, Timer
from workers.messages import (
    Acked,
    Credit,
    End,
    Gap,
    Hello,
    Linked,
    Replay,
    Resize,
    Result,
    ShellEnded,
    ShellSpec,
    ToAgent,
)

OWN_WINDOW_BYTES = 256 << 10  # in our send queue, for a server without `credit`
CLOSE_PATIENCE_S = 3.0
RESUME_PATIENCE_S = 10.0
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
        if session is not None and features.CREDIT in self._uplink.features:
            session.granted += message.bytes
            session.worker.send(Credit(bytes=message.bytes))

    def on_ack(self, message: ShellAck) -> None:
        """The consumer has everything below an offset."""
        session = self._sessions.get(message.session)
        if session is not None and features.RESUME in self._uplink.features:
            session.acked = max(session.acked, min(message.offset, session.text.offset))
            session.worker.send(Acked(offset=session.acked))

    def on_resume(self, message: ShellResume) -> None:
        """Send again from an offset."""
        session = self._sessions.get(message.session)
        if session is not None and features.RESUME in self._uplink.features:
            self._flow(session, min(message.offset, session.seen))

    def end(self, key: str, reason: str) -> None:
        """End a session for a reason; unknown or ended already: nothing."""
        session = self._sessions.get(key)
        if session is None or session.ended is not None:
            return
        worker = session.worker
        worker.send(End(reason=reason))
        self._loop.call_later(CLOSE_PATIENCE_S, lambda: _insist(worker, reason))

    def end_all(self, reason: str) -> None:
        """End every session."""
        for key in list(self._sessions):
            self.end(key, reason)

    def refuse(self, key: str, reason: str, detail: str | None = None) -> None:
        """Answer a start that did not become a session."""
        self._uplink.control(ShellClosed(session=key, reason=reason, detail=detail))

    def refuse_malformed(self, key: str, detail: str) -> None:
        """Answer a `shell_start` that is none; a live session of that name is left alone."""
        if key not in self._sessions:
            self.refuse(key, Reason.BAD_REQUEST, detail)

    def on_link_up(self) -> None:
        """Let output go on: at once to a server that cannot say from where, else when it asks."""
        if self._detached is not None:
            self._detached.cancel()
            self._detached = None
        for session in self._sessions.values():
            self._reattach(session)

    def on_link_down(self) -> None:
        """Stop sending; the terminals go on into their rings."""
        for session in self._sessions.values():
            self._halt(session)
        self._count_detached()

    def on_drained(self, key: str, cost: int) -> None:
        """That much of a session's output has left our send queue."""
        session = self._sessions.get(key)
        if session is None or not session.flowing:
            return
        session.drained += cost
        if features.RESUME not in self._uplink.features:
            session.worker.send(Acked(offset=session.drained))
        if features.CREDIT not in self._uplink.features:
            session.granted += cost
            session.worker.send(Credit(bytes=cost))

    def states(self) -> list[JobState]:
        """For the CONNECT packet: what this endpoint still has."""
        return [
            JobState(
                id=session.key,
                kind="shell",
                state="running" if session.ended is None else "finished",
                offset=session.text.offset,
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
        session.seen = MAX_SAFE_INTEGER  # its worker's Hello will tell
        if not self._uplink.is_up:
            self._count_detached()

    def recover(
        self, record: JobRecord, spool: Spool | None, on_stored: Callable[[], object]
    ) -> None:
        """Report a session whose worker did not outlive the agent's absence."""
        if spool is not None and isinstance(spool.result, ShellEnded):
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
        session.seen = hello.offset
        if session.flowing:
            # Dialled again, or asked for before it answered: what was under way is lost.
            self._flow(session, min(session.text.offset, hello.offset))
            return
        session.drained = session.acked = hello.kept_from
        session.text = self._text(hello.kept_from)
        self._halt(session)
        if self._uplink.is_up:
            self._reattach(session)

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """Output of the terminal: into events, and on."""
        session = self._by_worker.get(worker.record.job_id)
        if session is None or not session.flowing:
            return
        fresh = session.fresh(offset, data)
        if not session.is_allowed(fresh):
            worker.kill(Gone(reason="worker_died", detail="ipc_protocol: output without credit"))
            return
        self._say(session, fresh)
        self._close_if_told(session)

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """A gap in the output."""
        session = self._by_worker.get(worker.record.job_id)
        if session is None or not session.flowing or not isinstance(message, Gap):
            return
        if session.bypasses(message.start, message.end):
            self._tell_gap(session, message.end)

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
        offset = session.text.offset
        if session.restarting and gone.reason == "restart":
            session.ended = ShellEnded(reason="restart", offset=offset)
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
        session.flowing = True
        session.grant_to(spec.first_offset + self._window())
        worker.send(Credit(bytes=self._window()))

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
        text = self._text(spec.first_offset)
        session = Session(key, spec, run_as, place, worker, text)
        self._sessions[key] = session
        self._by_worker[worker.record.job_id] = session
        return session

    def _text(self, offset: int) -> StreamText:
        return StreamText(offset, as_base64=features.BASE64 in self._uplink.features)

    def _say(self, session: Session, data: bytes, *, is_last: bool = False) -> None:
        with_offset = features.RESUME in self._uplink.features
        for piece in session.text.pieces(data, self._uplink.event_limit, is_last=is_last):
            event = ShellOutput(
                session=session.key,
                data=piece.data,
                offset=piece.offset if with_offset else None,
                encoding=piece.encoding,
            )
            self._uplink.data(session.key, event, piece.cost)

    def _window(self) -> int:
        has_credit = features.CREDIT in self._uplink.features
        return CREDIT_INITIAL_BYTES if has_credit else OWN_WINDOW_BYTES

    def _reattach(self, session: Session) -> None:
        if session.finished:
            return
        if session.flowing:  # begun on this link, before it was known who the peer is
            session.text.as_base64 = features.BASE64 in self._uplink.features
            return
        if features.RESUME not in self._uplink.features:
            self._flow(session, session.drained)
            return

        def unasked() -> None:
            if not session.flowing and self._uplink.is_up:
                self._flow(session, session.acked)

        session.resume_timer = self._loop.call_later(RESUME_PATIENCE_S, unasked)

    def _flow(self, session: Session, offset: int) -> None:
        """Let output go out from `offset`."""
        if session.resume_timer is not None:
            session.resume_timer.cancel()
        session.flowing = True
        session.drained = offset
        session.text = self._text(offset)
        session.grant_to(offset + self._window())
        session.worker.send(Replay(offset=offset, credit=self._window()))
        self._close_if_told(session)
        self._limit_last_output(session)

    def _halt(self, session: Session) -> None:
        session.flowing = False
        if session.resume_timer is not None:
            session.resume_timer.cancel()
        session.worker.send(Linked(up=False))

    def _tell_gap(self, session: Session, end: int) -> None:
        """What follows is the output from `end`: the bytes before it are gone."""
        self._say(session, b"", is_last=True)
        start = session.text.fed
        if features.RESUME in self._uplink.features:
            self._uplink.data(session.key, ShellGap(session=session.key, start=start, end=end), 0)
        else:
            line = f"\r\n[jackline: {end - start} bytes of output were lost here]\r\n"
            self._uplink.data(session.key, ShellOutput(session=session.key, data=line), 0)
        session.text = self._text(end)
        session.drained += end - start
        session.seen = max(session.seen, end)
        session.granted += end - start
        self._close_if_told(session)

    def _close_if_told(self, session: Session) -> None:
        """The final goes to the outbox once everything before it is in the send queue."""
        if session.ended is not None and session.may_close():
            self._say(session, b"", is_last=True)
            self._finish(session, closed(session.key, session.ended))

    def _limit_last_output(self, session: Session) -> None:
        """Who had a session ended need not read on for its `shell_closed`."""
        if session.ended is None or session.ended.reason == Reason.EXIT or session.finished:
            return

        def cut_off() -> None:
            if session.ended is not None and session.flowing and not session.finished:
                self._tell_gap(session, session.ended.offset)

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
        if session.flowing:
            self._say(session, b"", is_last=True)
        end = max(session.seen, ended.offset if ended is not None else 0)
        if session.flowing and session.text.fed < end:
            self._tell_gap(session, end)
        self._by_worker.pop(old.record.job_id, None)
        if old.state == "EXITED":
            self._pool.drop_record(old.record.job_id)
        else:
            self._pool.release(old)
        notice = b"\r\n[jackline: this shell was restarted by an administrator]\r\n"
        spec = session.renewed_spec(end, notice)
        session.worker = self._spawn(session.key, spec, session.run_as)
        self._by_worker[session.worker.record.job_id] = session
        if session.flowing:
            session.grant_to(end + self._window())
            session.worker.send(Credit(bytes=self._window()))
        else:
            session.worker.send(Linked(up=False))

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


def _insist(worker: Worker, reason: str) -> None:
    """A worker that hangs does not obey."""
    if worker.result is None:
        worker.kill(Gone(reason=reason))
