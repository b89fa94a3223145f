"""One worker for a command of the endpoint itself, without a running agent.

The same worker that an agent would start (`jackline _worker`), driven until its result is there.
Interrupted from the keyboard it is told to end its job, and still gives its one result. When this
process is killed the worker goes on as its lease says. Source: architecture "Endpoint processes".
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from agent.errors import LocalWorkerError
from workers import frames, jobs
from workers.errors import FrameError, MailboxError
from workers.loop import Loop
from workers.messages import (
    Dial,
    End,
    Finished,
    Forget,
    Kind,
    NotBegun,
    Result,
    Spec,
    Start,
    ToAgent,
    ToWorker,
    decode_to_agent,
    encode,
)
from workers.messages_zygote import Spawn
from workers.program import own_command
from workers.queues import Mailbox, dial


def perform(
    kind: Kind,
    spec: Spec,
    state_dir: Path,
    run_dir: Path,
    on_mail: Callable[[ToAgent], object],
    lease_s: float | None = 5.0,
) -> Result:
    """Let a worker do one job and return its result.

    Args:
        on_mail: what it says on the way (progress, log records).
        lease_s: how long it goes on without us; None: to its end.

    Raises:
        LocalWorkerError: it could not be started, or died without a result.
    """
    return _Local(kind, state_dir, run_dir, on_mail).perform(spec, lease_s)


class _Local:
    def __init__(
        self, kind: Kind, state_dir: Path, run_dir: Path, on_mail: Callable[[ToAgent], object]
    ) -> None:
        self._loop = Loop()
        self._state_dir = str(state_dir)
        self._on_mail = on_mail
        self._result: Result | None = None
        self._mailbox: Mailbox | None = None
        self._token = secrets.token_bytes(32)
        self._job_id = f"{jobs.worker_id_of(kind, 'local')}.{secrets.token_hex(4)}"
        self._spawn = Spawn(
            job_id=self._job_id,
            kind=kind,
            address=str(run_dir / f"l-{secrets.token_hex(8)}.sock"),
            token=self._token,
            spool=str(jobs.spool_path(self._state_dir, self._job_id)),
        )

    def perform(self, spec: Spec, lease_s: float | None) -> Result:
        process = self._start()
        interrupted = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            self._mailbox = self._dial()
            self._put(Dial(token=self._token))
            self._put(Start(spec=spec, lease_s=lease_s))
            while self._result is None:
                self._loop.turn(max_wait_s=1.0)
                if process.poll() is not None and self._result is None:
                    self._loop.turn(max_wait_s=0.0)
                    if self._result is None:
                        raise LocalWorkerError(f"its worker died (code {process.returncode})")
            self._put(Forget())
            self._loop.turn(max_wait_s=0.0)
            process.wait(timeout=10.0)
            return self._result
        finally:
            signal.signal(signal.SIGINT, interrupted)
            if self._mailbox is not None:
                self._mailbox.close()
            self._loop.close()
            jobs.remove(self._state_dir, self._job_id)
            if os.path.exists(self._spawn.address):
                os.unlink(self._spawn.address)

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                [*own_command(), "_worker", self._state_dir],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as e:
            raise LocalWorkerError(f"no worker can be started: {e.strerror}") from e
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(encode(self._spawn))
        process.stdin.close()
        if process.stdout.readline() != b"listening\n":
            raise LocalWorkerError(f"its worker does not listen (code {process.wait()})")
        process.stdout.close()
        return process

    def _dial(self) -> Mailbox:
        try:
            mailbox = dial(self._loop, self._spawn.address, lambda _pid, _uid: True)
        except MailboxError as e:
            raise LocalWorkerError(f"its worker cannot be reached: {e}") from e
        mailbox.on_frame = self._on_frame
        mailbox.on_closed = lambda _reason: None
        return mailbox

    def _put(self, message: ToWorker) -> None:
        assert self._mailbox is not None
        self._mailbox.put(frames.message_frame(encode(message)))

    def _on_interrupt(self, _number: int, _frame: object) -> None:
        self._loop.call_threadsafe(lambda: self._put(End(reason="cancelled")))

    def _on_frame(self, kind: int, body: bytes) -> None:
        if kind != frames.MESSAGE:
            return
        try:
            message = decode_to_agent(body)
        except FrameError as e:
            raise LocalWorkerError("its worker speaks another language") from e
        if isinstance(message, Finished):
            if isinstance(message.result, NotBegun):
                raise LocalWorkerError(f"it could not begin: {message.result.detail}")
            self._result = message.result
        else:
            self._on_mail(message)
