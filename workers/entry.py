"""A worker process: its loop, its mailbox, its beat and its lease, around one job of one kind.

Runs in a process that the zygote forked (or, where there is none, in a fresh `jackline _worker`).
Rules: one thread; the beat is sent by the loop that does the work; the final result is kept until
the agent has stored it; with no agent the job goes on until its lease ends, and then the result
and the unread output are spooled. Source: architecture, "Endpoint processes".
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import sys
from typing import Any

from workers import frames, jobs
from workers.errors import AccountError, MailboxFullError, RecordError
from workers.kind import Worker
from workers.loop import Loop, Timer
from workers.messages import (
    Beat,
    Dial,
    Finished,
    Forget,
    Hello,
    Log,
    NotBegun,
    Result,
    Start,
    ToAgent,
    decode_to_worker,
    encode,
)
from workers.messages_zygote import Spawn, decode_to_zygote
from workers.queues import Mailbox, listen

BEAT_S = 2.0
DIAL_S = 5.0  # a dialler shows its token, or is sent away
IDLE_S = 2.0  # a worker without a job and without an agent ends
KEEP_FINISHED_S = 10.0  # a finished job waits that long for an agent; its result is spooled
ROOM_BYTES = 256 << 10

# The module of each kind; imported in the worker (the zygote has the small ones loaded).
KINDS = {
    "shell": "workers.shell.worker",
    "admin": "workers.admin.worker",
    "backup": "workers.backup.worker",
    "keys": "workers.keys.worker",
    "telemetry": "workers.telemetry.worker",
    "tail": "workers.files.worker",
    "listing": "workers.files.worker",
    "heartbeat": "workers.heartbeat.worker",
    "inventory": "workers.heartbeat.stocktaker",
}


class Office:
    """The `Desk` of a kind, and the one that answers the agent."""

    def __init__(self, job_id: str, kind: str, token: bytes, spool_fd: int, state_dir: str) -> None:
        self.loop = Loop(on_error=self._on_error)
        self.job_id = job_id
        self.state_dir = state_dir
        self.secret_dirs: list[str] = []
        self.exit_code = 0
        self._kind = kind
        self._token = token
        self._spool_fd = spool_fd
        self._mailbox: Mailbox | None = None
        self._worker: Worker | None = None
        self._result: Result | None = None
        self._ending = False
        self._is_over = False  # nobody is waited for any more
        self._progress = 0
        self._beat_timer: Timer | None = None
        self._lease_s: float | None = None
        self._lease: Timer | None = self.loop.call_later(IDLE_S, self.leave)

    def listen(self, address: Any) -> None:
        """Accept agents at `address`: a path, or a listening socket that the zygote bound."""
        listen(self.loop, address, _may_dial, self._on_peer)

    def run(self) -> int:
        """Work until the job is over and its result is safe; return the exit code."""
        signal.signal(signal.SIGTERM, lambda *_: self.loop.call_threadsafe(self._on_terminate))
        if sys.platform != "win32":
            # A hung worker's stack goes where its result would: the agent reads it there.
            faulthandler.register(signal.SIGUSR2, self._spool_fd, all_threads=True)
        self.loop.run()
        return self.exit_code

    def leave(self) -> None:
        """End this process after the current turn."""
        if self._mailbox is not None:
            self._mailbox.close()
        self.loop.stop()

    def send(self, message: ToAgent) -> None:
        self._put(frames.message_frame(encode(message)))

    def send_data(self, stream: int, offset: int, data: bytes) -> None:
        self._progress += 1
        self._put(frames.data_frame(stream, offset, data))

    def has_room(self) -> bool:
        return self._mailbox is not None and self._mailbox.pending_bytes < ROOM_BYTES

    def finish(self, result: Result) -> None:
        if self._result is not None:
            return
        frame = frames.message_frame(encode(Finished(result=result)))  # FrameError: a kind's bug
        self._result = result
        self._put(frame)
        if self._mailbox is None:
            self._spool_or_stay()

    def progress(self) -> None:
        self._progress += 1

    def log(self, level: str, sentence: str, **fields: Any) -> None:
        self.send(Log(level=level, sentence=sentence, fields=fields))  # type: ignore[arg-type]

    def _on_peer(self, peer: Mailbox) -> None:
        """A dialler is nobody until it has shown the token; a second one is sent away."""
        patience = self.loop.call_later(DIAL_S, peer.close)

        def first_frame(kind: int, body: bytes) -> None:
            patience.cancel()
            message = decode_to_worker(body) if kind == frames.MESSAGE else None
            known = isinstance(message, Dial) and _is_same(message.token, self._token)
            if known and self._mailbox is None:
                self._attach(peer)
            else:
                peer.close()

        peer.on_frame = first_frame

    def _attach(self, peer: Mailbox) -> None:
        self._mailbox = peer
        peer.on_frame = self._on_frame
        peer.on_closed = self._on_closed
        peer.on_room = self._on_room
        self._disarm_lease()
        self.send(self._hello())
        self._beat()
        if self._worker is not None:
            self._worker.on_attached()
        if self._result is not None:
            self.send(Finished(result=self._result))

    def _hello(self) -> Hello:
        child_pid, offset, kept_from = (
            (None, 0, 0) if self._worker is None else self._worker.position()
        )
        return Hello(
            kind=self._kind,
            job_id=self.job_id,
            pid=os.getpid(),
            started=self._worker is not None,
            finished=self._result is not None,
            child_pid=child_pid,
            offset=offset,
            kept_from=kept_from,
        )

    def _on_frame(self, kind: int, body: bytes) -> None:
        """One frame; a FrameError closes the mailbox, as if the agent had died: no more."""
        if kind == frames.DATA:
            if self._worker is not None and self._result is None:
                self._worker.on_data(frames.parse_data(body)[2])
            return
        message = decode_to_worker(body)
        if isinstance(message, Forget):
            self.leave()
        elif isinstance(message, Start):
            self._start(message)
        elif self._worker is not None and not isinstance(message, Dial):
            self._worker.on_message(message)

    def _start(self, start: Start) -> None:
        if self._worker is not None:
            return
        self._lease_s = start.lease_s
        self.secret_dirs = start.secret_dirs
        kind = importlib.import_module(KINDS[self._kind])
        try:
            if start.run_as is not None:
                # Python's own directories may be closed to the account.
                if hasattr(kind, "import_all"):
                    kind.import_all()
                become(start.run_as)
        except AccountError as e:
            self.finish(NotBegun(reason="no_user", detail=str(e)))
            return
        self._worker = kind.make(self)
        self._worker.on_start(start.spec)

    def _on_closed(self, _reason: str) -> None:
        self._mailbox = None
        if self._worker is None:
            self._arm_lease(IDLE_S)
            return
        self._worker.on_detached()
        if self._result is not None:
            self._spool()
            self._arm_lease(max(KEEP_FINISHED_S, self._lease_s or 0.0))
        elif self._lease_s is not None:
            self._arm_lease(self._lease_s)

    def _on_room(self) -> None:
        if self._worker is not None:
            self._worker.on_room()

    def _beat(self) -> None:
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if self._mailbox is not None:
            self.send(Beat(progress=self._progress))
            self._beat_timer = self.loop.call_later(BEAT_S, self._beat)

    def _arm_lease(self, lease_s: float) -> None:
        self._disarm_lease()
        self._lease = self.loop.call_later(lease_s, self._on_lease_over)

    def _disarm_lease(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None

    def _on_lease_over(self) -> None:
        if self._worker is None or self._result is not None:
            self._spool()
            self.leave()
        else:
            self._is_over = True
            self._worker.end("lease_expired")

    def _on_terminate(self) -> None:
        self._is_over = True
        if self._worker is None:
            self.leave()
        elif self._result is None:
            self._worker.end("agent_stopped")
        elif self._mailbox is None:
            self._spool_or_stay()

    def _spool_or_stay(self) -> None:
        """The job has ended without an agent: leave where nobody is expected, else wait a while."""
        if self._spool() and self._is_over:
            self.leave()
        else:
            self._arm_lease(KEEP_FINISHED_S)

    def _spool(self) -> bool:
        """Write the result down, with what nobody has read; False: it is not on the disk."""
        if self._result is None or self._worker is None:
            return False
        offset, unread = self._worker.unread()
        try:
            jobs.write_spool(
                self._spool_fd, jobs.Spool(result=self._result, offset=offset, unread=unread)
            )
        except RecordError:
            # Disk full: the result lives in memory until the lease ends; then it is lost and the
            # agent reports the job as of unknown outcome.
            self.exit_code = 1
            return False
        return True

    def _put(self, frame: bytes) -> None:
        if self._mailbox is None:
            return
        try:
            self._mailbox.put(frame)
        except MailboxFullError:
            # An agent that takes nothing is as good as none; the next one dials again.
            self._mailbox.close()
            self._on_closed("full")

    def _on_error(self, error: Exception) -> None:
        """A bug: say so and die; the agent reports `worker_died`."""
        self.log("error", "worker failed", error=repr(error))
        self.exit_code = 70
        if self._worker is not None and not self._ending:
            self._ending = True
            self._worker.end("worker_died")
        else:
            self.leave()


def run(argv: list[str]) -> int:
    """Work as `jackline _worker STATE_DIR`, a worker without a zygote, and return the exit code.

    The Spawn request comes on standard input, so that the token is in no argument; a line on
    standard output says that the worker listens.
    """
    (state_dir,) = argv
    spawn = decode_to_zygote(sys.stdin.buffer.read())
    if not isinstance(spawn, Spawn):
        return 64
    _hold_together(spawn.job_id)
    spool_fd = jobs.open_spool(spawn.spool)
    office = Office(spawn.job_id, spawn.kind, spawn.token, spool_fd, state_dir)
    office.listen(spawn.address)
    print("listening", flush=True)  # noqa: T201  # whoever started us waits for it
    return office.run()


def _hold_together(job_id: str) -> None:
    """See that all this worker will start can be found and ended; the zygote does it elsewhere.

    Raises:
        OSError: it cannot; then there is no worker.
    """
    if sys.platform == "win32":
        from workers.trees_windows import enter_job

        enter_job(job_id)
    else:
        from workers.hardening import harden_worker
        from workers.trees_posix import become_subreaper

        become_subreaper()
        harden_worker()


def become(account: str) -> None:
    """Take on another account for good."""
    if sys.platform != "win32":
        from workers.accounts import drop_to

        drop_to(account)


def _is_same(given: bytes, wanted: bytes) -> bool:
    """Compare in a time that tells nothing; `hmac` would load OpenSSL into every worker."""
    difference = len(given) ^ len(wanted)
    return (int.from_bytes(given) ^ int.from_bytes(wanted)) | difference == 0


def _may_dial(_pid: int, uid: int) -> bool:
    return uid in (0, _OWNER_UID)


_OWNER_UID = os.getuid() if hasattr(os, "getuid") else 0
