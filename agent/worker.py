"""One worker process as the agent sees it: its mailbox, its state, its beat, its death.

Rules: only the core thread touches it; it is reaped exactly once, when its process is dead and
everything it had written was read; its owner hears either the job's final result or `on_gone`,
never both. Source: architecture, "Endpoint processes" and "Hang detection".
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from agent.limits import TokenBucket
from workers import frames, processes, trees
from workers.errors import FrameError, MailboxError, MailboxFullError
from workers.jobs import EXIT_NO_SPOOL, JobRecord
from workers.loop import Loop
from workers.messages import (
    Beat,
    Dial,
    Finished,
    Forget,
    Hello,
    Log,
    NotBegun,
    Result,
    Running,
    Start,
    ToAgent,
    ToWorker,
    decode_to_agent,
    encode,
)
from workers.processes import ProcessRef
from workers.queues import Mailbox, dial

State = Literal["STARTING", "RUNNING", "STOPPING", "EXITED"]

REDIAL_S = 0.1
REDIALS = 50
# Messages, not output: what a worker has to say is little.
LOG_LINES_PER_S = 1.0
LOG_LINES_BURST = 20
MESSAGES_PER_S = 1000.0
MESSAGES_BURST = 4000
_OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
EXIT_REPORT_S = 1.0  # comes within milliseconds, save on a busy machine or without a zygote


class Owner(Protocol):
    """The family that a worker works for."""

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """The worker answers: for the first time, or again after this agent has adopted it."""

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """Anything but Hello, Beat, Running, Log and Finished."""

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """Raw output; `offset` is its first byte's."""

    def on_finished(self, worker: Worker, result: Result) -> None:
        """The final result, once. Call `worker.forget()` when it is stored."""

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """The process is dead and gave no result."""


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """Why a worker is dead; `signal` and `code` where they could be known."""

    reason: str
    signal: int | None = None
    code: int | None = None
    detail: str | None = None


class Worker:
    """See the module. Made by `agent.pool`, in state STARTING, before its process exists."""

    def __init__(
        self,
        loop: Loop,
        record: JobRecord,
        owner: Owner,
        on_reaped: Callable[[Worker], None],
        on_log: Callable[[Worker, Log], None],
    ) -> None:
        self.record = record
        self.owner = owner
        self.state: State = "STARTING"
        self.started_s = loop.clock()
        self.last_beat_s: float | None = None
        self.progress = 0
        self.progress_s = loop.clock()
        self.child_pid: int | None = None
        self.result: Result | None = None
        self.doom: Gone | None = None  # why we are killing it
        self.stopping_s = 0.0  # since when it should be gone; once it is killed, since then
        self.gone: Gone | None = None  # what its owner was told
        self._loop = loop
        self._on_reaped = on_reaped
        self._on_log = on_log
        self._mailbox: Mailbox | None = None
        self._pidfd: int | None = None
        self._unsent: list[bytes] = []
        self._cleared = False  # the record is placed: Start and what follows may go out
        self._dead = False
        self._status: int | None = None
        self._redials = 0
        self._is_adopted = False
        self._messages = TokenBucket(loop.clock, MESSAGES_PER_S, MESSAGES_BURST)
        self.log_lines = TokenBucket(loop.clock, LOG_LINES_PER_S, LOG_LINES_BURST)

    @property
    def id(self) -> str:
        """What admins call it; stable across adoption and restart."""
        return self.record.worker_id

    @property
    def pid(self) -> int:
        """Of the worker process; 0 before it exists."""
        return self.record.pid

    @property
    def is_connected(self) -> bool:
        """Does it have a mailbox?"""
        return self._mailbox is not None

    @property
    def has_beaten(self) -> bool:
        """Has it ever said that it is alive?"""
        return self.last_beat_s is not None

    def send(self, message: ToWorker) -> None:
        """Queue a message; kept until the worker may start."""
        self._put(frames.message_frame(encode(message)))

    def send_data(self, data: bytes) -> None:
        """Queue terminal input, split to what a frame may hold."""
        step = frames.MAX_BODY_BYTES // 2
        for start in range(0, len(data), step):
            self._put(frames.data_frame(0, 0, data[start : start + step]))

    def forget(self) -> None:
        """The final result is stored: the worker may go."""
        if self.state != "EXITED":
            self._count_stopping()
            self._put(frames.message_frame(encode(Forget())))

    def launch(self, record: JobRecord) -> None:
        """Its process exists: watch it and dial it."""
        self.record = record
        self._watch()
        if self.doom is not None:
            self.kill(self.doom)  # it was to die before it was born
        self.dial()

    def adopt(self) -> None:
        """Dial the process of an earlier agent's record."""
        self._cleared = self._is_adopted = True
        self._watch()
        self.dial()

    def clear(self, start: Start) -> None:
        """The record is where the next agent finds it: let the job begin."""
        self._cleared = True
        held, self._unsent = self._unsent, []
        self._put(frames.message_frame(encode(start)))
        for frame in held:
            self._put(frame)

    def dial(self) -> None:
        """Connect to its mailbox, again and again for 5 s."""
        if self._dead or self._mailbox is not None:
            return
        try:
            mailbox = dial(self._loop, self.record.address, _is_possible)
        except MailboxError as e:
            self._redials += 1
            if lacks_resources(e):
                self.kill(Gone(reason="resources", detail=str(e)))
            elif self._redials > REDIALS:
                self.kill(Gone(reason="worker_died", detail=f"ipc_protocol: {e}"))
            else:
                self._loop.call_later(REDIAL_S, self.dial)
            return
        self._mailbox = mailbox
        mailbox.on_frame = self._on_frame
        mailbox.on_closed = self._on_closed
        mailbox.put(frames.message_frame(encode(Dial(token=self.record.token))))
        if self._cleared:
            held, self._unsent = self._unsent, []
            for frame in held:
                mailbox.put(frame)

    def kill(self, gone: Gone) -> None:
        """Kill the process, with its children where a control group holds them; told as `gone`.

        What is left of them the pool looks for when the process is dead.
        """
        if self.doom is None:
            self.doom = gone
            self.stopping_s = self._loop.clock()
        if self.state != "EXITED":
            self.state = "STOPPING"
        if not self.pid or self._dead:
            return
        trees.kill_group(self.record.job_id)
        with contextlib.suppress(OSError):
            if self._pidfd is not None and sys.platform == "linux":
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                processes.send(ProcessRef(self.pid, self.record.start_time), 9)

    def abandon(self) -> None:
        """SIGKILL does not end it (it hangs in the kernel): count it as gone all the same."""
        self._let_go()
        self._on_death()
        self._settle_without_report()

    def _count_stopping(self) -> None:
        if self.state != "STOPPING":
            self.state = "STOPPING"
            self.stopping_s = self._loop.clock()

    def _let_go(self) -> None:
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None

    def note_exit(self, status: int, *, out_of_memory: bool = False) -> None:
        """The zygote reports how it ended: -n by signal n, else its exit code."""
        self._status = status
        if out_of_memory and status == -9 and self.doom is None:
            self.doom = Gone(reason="oom")
        if self._dead:
            self._settle()
        elif self._pidfd is None:
            self._on_death()

    def fail(self, reason: str, detail: str) -> None:
        """It never came to life."""
        self._dead = True
        self.doom = Gone(reason=reason, detail=detail)
        self._settle_without_report()

    def _watch(self) -> None:
        """A pidfd in the loop tells of the death at once, also of a process that is not our child.

        Without pidfds the closed mailbox tells, and the zygote's report.
        """
        if not hasattr(os, "pidfd_open"):
            return
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._on_death()
        except OSError:
            return
        else:
            self._loop.set_reader(self._pidfd, self._on_death)

    def _put(self, frame: bytes) -> None:
        if self._mailbox is None or not self._cleared:
            if not self._dead:
                self._unsent.append(frame)
            return
        try:
            self._mailbox.put(frame)
        except MailboxFullError as e:
            self.kill(Gone(reason="worker_stalled", detail=str(e)))

    def _on_frame(self, kind: int, body: bytes) -> None:
        """One frame; a FrameError closes the mailbox, and that ends the worker."""
        is_output = kind == frames.DATA and len(body) > frames.DATA_HEADER_BYTES
        if not is_output and not self._messages.admits():
            raise FrameError(f"more than {MESSAGES_PER_S:.0f} messages a second")
        if kind == frames.DATA:
            stream, offset, data = frames.parse_data(body)
            self.owner.on_output(self, stream, offset, data)
            return
        match message := decode_to_agent(body):
            case Beat():
                self._on_beat(message.progress)
            case Hello():
                self._on_hello(message)
            case Running():
                self.child_pid = message.child_pid
            case Finished():
                self._on_finished(message.result)
            case Log():
                self._on_log(self, message)
            case _:
                self.owner.on_mail(self, message)

    def _on_hello(self, hello: Hello) -> None:
        if hello.job_id != self.record.job_id:
            raise FrameError("another job answers")
        if self._is_adopted and not hello.started and not hello.finished:
            # The agent before us died before it could let the job begin: it never will.
            self.doom = Gone(reason="agent_restarted", detail="the job had not begun")
            self.forget()
            return
        self._redials = 0
        self.child_pid = hello.child_pid
        if self.state == "STARTING":
            self.state = "RUNNING"
        self._on_beat(self.progress)
        self.owner.on_ready(self, hello)

    def _on_beat(self, progress: int) -> None:
        self.last_beat_s = self._loop.clock()
        if progress != self.progress:
            self.progress, self.progress_s = progress, self.last_beat_s

    def _on_finished(self, result: Result) -> None:
        if isinstance(result, NotBegun):
            self.doom = Gone(reason=result.reason, detail=result.detail)
            self.forget()
        elif self.result is None:
            self.result = result
            self.owner.on_finished(self, result)

    def _on_closed(self, reason: str) -> None:
        """All that it wrote has been read. Dead, or about to be, or it lost patience with us."""
        self._mailbox = None
        if reason.startswith("ipc_protocol"):
            self.kill(Gone(reason="worker_died", detail=reason))
        if self._dead:
            self._settle()
        elif self._pidfd is None and not hasattr(os, "pidfd_open"):
            self._on_death()
        else:
            self._loop.call_later(REDIAL_S, self.dial)

    def _on_death(self) -> None:
        if self._dead:
            return
        self._dead = True
        if self._pidfd is not None:
            self._loop.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        # Either may stay away: the exit's report, or the mailbox's end, which somebody inherited.
        self._loop.call_later(EXIT_REPORT_S, self._settle_without_report)
        self._settle()

    def _settle_without_report(self) -> None:
        # Its end of the mailbox was inherited by somebody; what was in it has been read.
        self._let_go()
        self._status = self._status if self._status is not None else 0
        self._settle()

    def _settle(self) -> None:
        """Reap: dead, mailbox read to its end, exit reported (or waited for long enough)."""
        if self.state == "EXITED" or self._mailbox is not None:
            return
        if self._status is None:
            return
        self.state = "EXITED"
        self._unsent.clear()
        if self.result is None:
            self.gone = self._gone()
            self.owner.on_gone(self, self.gone)
        self._on_reaped(self)

    def _gone(self) -> Gone:
        status = self._status
        signal_number = -status if status is not None and status < 0 else None
        if self.doom is not None:
            return Gone(
                reason=self.doom.reason,
                signal=signal_number,
                code=self.doom.code,
                detail=self.doom.detail,
            )
        if status == EXIT_NO_SPOOL:
            return Gone(reason="disk_full", code=status)
        return Gone(reason="worker_died", signal=signal_number)


def lacks_resources(error: Exception) -> bool:
    """Was it for want of descriptors or memory? Then it is nobody's fault and may pass."""
    cause = error.__cause__ or error
    return isinstance(cause, OSError) and cause.errno in _OUT_OF


def _is_possible(_pid: int, uid: int) -> bool:
    """A listener that the zygote bound carries the zygote's user, which is ours."""
    return uid in (0, os.getuid()) if hasattr(os, "getuid") else True
