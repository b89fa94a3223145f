"""The agent's side of the zygote: find it or start it, ask for workers, hear of their exits.

Rules: everything on the core thread; a zygote that does not answer a request within 5 s is killed
and replaced (its workers live on); one that ends before it is up is tried ever more slowly, and
from the fifth on requests are refused at once; every exit report is passed on once, then forgotten
there.
Source: architecture, "Endpoint processes".
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from agent.log import Log
from workers import frames
from workers.errors import FrameError, MailboxError
from workers.loop import Loop, Timer
from workers.messages import encode
from workers.messages_zygote import (
    Exited,
    ForgetExit,
    Quit,
    Ready,
    Spawn,
    Spawned,
    SpawnFailed,
    ToZygote,
    decode_from_zygote,
)
from workers.program import own_command
from workers.queues import Mailbox, dial

assert sys.platform != "win32"

from workers.queues_posix import bind  # noqa: E402 - POSIX from here on

ANSWER_S = 5.0
RESTART_GAP_S = 0.5
# After so many zygotes in a row that ended before they were up: four a minute in the end.
STILLBORN_GAPS_S = (0.0, 0.0, 0.5, 1.0, 2.0, 15.0)

OnSpawned = Callable[[Spawned | SpawnFailed], object]


@dataclass
class _Request:
    """One worker that was asked for."""

    spawn: Spawn
    on_answer: OnSpawned
    timer: Timer


class Nursery:
    """Spawns workers through the zygote.

    Args:
        address: where this version's zygote listens.
        on_exited: called with every Exited report, before it is forgotten.
        watch_child: reaps the zygote, which is this process's child: (pid, callback(status)).
        on_started: called with the pid of every zygote that is started.
        answer_s: how long a request may take.
    """

    def __init__(
        self,
        loop: Loop,
        address: str,
        state_dir: str,
        on_exited: Callable[[Exited], object],
        watch_child: Callable[[int, Callable[[int], object]], None],
        log: Log,
        on_started: Callable[[int], object] = lambda _pid: None,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._loop = loop
        self._address = address
        self._state_dir = state_dir
        self._on_exited = on_exited
        self._watch_child = watch_child
        self._log = log
        self._on_started = on_started
        self._answer_s = answer_s
        self._mailbox: Mailbox | None = None
        self._requests: dict[str, _Request] = {}
        self._closing = False
        self._is_up = False  # this zygote has said that it is there
        self._stillborn = 0
        self._retry_at_s = 0.0
        self._distrusted = False  # who listens there did not answer, and has not told its pid
        self.pid: int | None = None
        self.restarts = -1

    @property
    def is_failing(self) -> bool:
        """Has zygote after zygote ended before it was up, so that no worker can be had?"""
        return self._stillborn >= len(STILLBORN_GAPS_S) - 1

    def connect(self) -> None:
        """Dial the zygote that an earlier agent left, or start one; never blocks."""
        if self._mailbox is not None or self._closing:
            return
        if self._loop.clock() < self._retry_at_s:
            if self.is_failing:
                self._refuse_soon("no zygote stays up")
            return
        try:
            if self._distrusted:
                raise MailboxError("the zygote there does not answer")
            self._attach(dial(self._loop, self._address, _is_ours))
            self.pid = None
        except MailboxError:
            self._start_or_refuse()

    def spawn(self, spawn: Spawn, on_answer: OnSpawned) -> None:
        """Ask for a worker; `on_answer` is called once, SpawnFailed after 5 s at the latest."""
        timer = self._loop.call_later(self._answer_s, lambda: self._on_silent(spawn.job_id))
        self._requests[spawn.job_id] = _Request(spawn, on_answer, timer)
        self.connect()
        self._send(spawn)

    def quit(self) -> None:
        """Let the zygote end; its workers are not touched."""
        self._send(Quit())
        self.close()

    def close(self) -> None:
        """Leave the zygote for the next agent."""
        self._closing = True
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None

    def _start_or_refuse(self) -> None:
        try:
            self._start()
        except (MailboxError, OSError) as e:
            self._log.error("zygote not started", error=str(e))
            self._refuse_soon(f"no zygote can be started: {e}")

    def _refuse_soon(self, error: str) -> None:
        """Refuse what is asked for; never from within `spawn`."""
        self._loop.call_soon(lambda: self._refuse_all(error))

    def _refuse_all(self, error: str) -> None:
        if self._mailbox is not None:
            return
        requests, self._requests = self._requests, {}
        for job_id, request in requests.items():
            request.timer.cancel()
            request.on_answer(SpawnFailed(job_id=job_id, error=error))

    def _start(self) -> None:
        with bind(self._address) as listening:
            self.pid = self._exec(listening.fileno())
        self.restarts += 1
        self._distrusted = False
        pid = self.pid
        self._on_started(pid)
        self._watch_child(pid, lambda status: self._on_zygote_exit(pid, status))
        self._attach(dial(self._loop, self._address, _is_ours))
        self._log.debug("zygote started", pid=pid)

    def _exec(self, listening_fd: int) -> int:
        argv = [*own_command(), "_zygote", "3", self._address, self._state_dir]
        return os.posix_spawn(
            argv[0],
            argv,
            _environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
                (os.POSIX_SPAWN_DUP2, listening_fd, 3),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD],
        )

    def _attach(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        mailbox.on_frame = self._on_frame
        mailbox.on_closed = self._on_closed

    def _send(self, message: ToZygote) -> None:
        if self._mailbox is not None:
            self._mailbox.put(frames.message_frame(encode(message)))

    def _on_frame(self, _kind: int, body: bytes) -> None:
        try:
            message = decode_from_zygote(body)
        except FrameError:
            self._drop()
            return
        if isinstance(message, Ready):
            self.pid, self._is_up, self._stillborn = message.pid, True, 0
            return
        if isinstance(message, Exited):
            self._on_exited(message)
            self._send(ForgetExit(pid=message.pid))
            return
        request = self._requests.pop(message.job_id, None)
        if request is not None:
            request.timer.cancel()
            request.on_answer(message)

    def _on_closed(self, reason: str) -> None:
        """The zygote died: start another and ask again for what it owed."""
        self._mailbox = None
        if self._closing:
            return
        self._stillborn = 0 if self._is_up else self._stillborn + 1
        self._is_up = False
        gap_s = STILLBORN_GAPS_S[min(self._stillborn, len(STILLBORN_GAPS_S) - 1)]
        if self.restarts > 3:
            gap_s = max(gap_s, RESTART_GAP_S)
        self._log.warning("zygote lost", reason=reason, was_up=not self._stillborn)
        self._retry_at_s = self._loop.clock() + gap_s
        if self.is_failing:
            self._refuse_soon("no zygote stays up")
        self._loop.call_later(gap_s, self._reconnect)

    def _reconnect(self) -> None:
        if self._mailbox is None and not self._closing:
            self.connect()
            for request in self._requests.values():
                self._send(request.spawn)

    def _on_silent(self, job_id: str) -> None:
        request = self._requests.pop(job_id, None)
        if request is None:
            return
        self._log.error("zygote does not answer", pid=self.pid)
        self._drop()
        request.on_answer(SpawnFailed(job_id=job_id, error="the zygote does not answer"))

    def _drop(self) -> None:
        """Replace a zygote that is stuck or speaks nonsense; SIGTERM ends no stopped one."""
        self._distrusted = self.pid is None
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self._mailbox is not None:
            self._mailbox.close()
            self._on_closed("dropped")

    def _on_zygote_exit(self, pid: int, status: int) -> None:
        if self.pid == pid:
            self.pid = None
        self._log.debug("zygote ended", pid=pid, status=status)


def _is_ours(_pid: int, uid: int) -> bool:
    return uid in (0, os.getuid())


def _environment() -> dict[str, str]:
    """Build the zygote's whole environment: nothing of the agent's own is handed down."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {"PATH": os.defpath, **found}
