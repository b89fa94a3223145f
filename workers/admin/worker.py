"""One admin command: run, fed, timed, its output kept at both ends and told live where asked.

While it is streamed to somebody, the pipes are read only as far as the consumer's credit goes; else
they are drained to the end. The result comes when the command has exited and its pipes are closed.
A background process that it left behind may hold them open: then the output ends with its silence,
or with our patience, and that process is left alone. A timeout, and `end`, end the whole tree.
Source: contract 1.4, 1.7 `credit`, `stream`.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

from workers import trees
from workers.errors import DirectoryRefusedError
from workers.kind import Desk
from workers.loop import Timer
from workers.messages import (
    STREAM_STDERR,
    STREAM_STDOUT,
    AdminSpec,
    CommandEnded,
    Credit,
    End,
    Linked,
    Running,
    Spec,
    ToWorker,
)

assert sys.platform != "win32"

from workers.accounts import Account, own  # noqa: E402 - POSIX from here on
from workers.admin import directory  # noqa: E402
from workers.admin.child import CHUNK_BYTES, Child  # noqa: E402
from workers.admin.output import Capture  # noqa: E402
from workers.reaper import Reaper  # noqa: E402

if TYPE_CHECKING:
    from workers.admin.crontab import CrontabKeeper

REFUSED = 126
NOT_FOUND = 127
TIMED_OUT = 124
NOT_STARTED = 125
LAST_OUTPUT_S = 0.2
LAST_OUTPUT_MOST_S = 1.0
# What a consumer that comes back may be sent before it says anything: what was on its way to the
# one that went is lost, and its credit with it.
CREDIT_ANEW_BYTES = 64 << 10
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def make(desk: Desk) -> AdminWorker:
    """Return the worker of one command."""
    return AdminWorker(desk)


class AdminWorker:
    """See `workers.kind.Worker`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._loop = desk.loop
        self._reaper = Reaper()
        self._reaper.attach(desk.loop)
        self._child: Child | None = None
        self._keeper: CrontabKeeper | None = None
        self._captures: dict[int, Capture] = {}
        self._timers: list[Timer] = []
        self._silence: Timer | None = None
        self._started_s = desk.loop.clock()
        self._streams = False
        self._credit = 0
        self._attached = True
        self._linked = True
        self._ending: str | None = None  # "timeout", or the reason of `end`
        self._finished = False

    # -- what entry calls ----------------------------------------------------------------------

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, AdminSpec)
        self._streams = spec.stream
        self._captures = {
            stream: Capture(spec.keep_bytes) for stream in (STREAM_STDOUT, STREAM_STDERR)
        }
        account = own()
        try:
            if spec.cwd:
                directory.enter(spec.cwd, spec.cwd_roots)
            else:
                directory.enter_home(account.home)
        except DirectoryRefusedError as e:
            self._finish(REFUSED, error="policy_denied", note=str(e))
            return
        env = _environment(spec, account, self._desk.job_id)
        if spec.keep_crontab:
            self._keep_crontab(spec, env, account)
        else:
            self._launch(spec, env)

    def on_data(self, data: bytes) -> None:
        """A command has no terminal: nobody types into it."""

    def on_message(self, message: ToWorker) -> None:
        match message:
            case Credit():
                self._credit += message.bytes
                self._resume()
            case Linked():
                if message.up and not self._linked:
                    self._credit = max(self._credit, CREDIT_ANEW_BYTES)
                self._linked = message.up
                self._resume()
            case End():
                self.end(message.reason)
            case _:
                return

    def on_attached(self) -> None:
        # The new agent says whether anybody listens.
        self._attached, self._linked = True, False
        self._resume()

    def on_detached(self) -> None:
        self._attached = False
        self._resume()

    def on_room(self) -> None:
        self._resume()

    def end(self, reason: str) -> None:
        if self._ending is None and not self._finished:
            self._kill(reason)

    def position(self) -> tuple[int | None, int, int]:
        return (None if self._child is None else self._child.pid), 0, 0

    def unread(self) -> tuple[int, bytes]:
        return 0, b""

    # -- its beginning -------------------------------------------------------------------------

    def _keep_crontab(self, spec: AdminSpec, env: dict[str, str], account: Account) -> None:
        # Here: the one command in a hundred that needs it pays for it.
        from pathlib import Path

        from workers.admin.crontab import CrontabKeeper

        folders = [
            Path(self._desk.state_dir, "crontabs", account.name),
            Path(account.home, ".local/state/jackline/crontabs"),
        ]
        keeper = CrontabKeeper(self._loop, self._reaper, spec.argv[0], env, folders)

        def on_kept(reason: str | None) -> None:
            if self._ending is not None:
                return
            if reason is not None:
                self._finish(REFUSED, error="crontab_not_kept", note=reason)
                return
            self._keeper = keeper
            self._launch(spec, env)

        keeper.keep(on_kept)

    def _launch(self, spec: AdminSpec, env: dict[str, str]) -> None:
        self._started_s = self._loop.clock()
        try:
            child = Child(self._loop, self._reaper, spec.argv, env, spec.stdin, self._room)
        except OSError as e:
            self._refuse_launch(spec.argv[0], e)
            return
        child.on_output, child.on_ended = self._on_output, self._on_ended
        self._child = child
        self._desk.send(Running(child_pid=child.pid))
        self._timers.append(self._loop.call_later(spec.timeout_s, self._on_timeout))

    def _refuse_launch(self, program: str, e: OSError) -> None:
        note = f"{program} cannot be started: {e.strerror}"
        if isinstance(e, FileNotFoundError):
            self._finish(NOT_FOUND, error="not_found", note=note)
        elif e.errno in _NO_RESOURCES:
            self._finish(NOT_STARTED, error="resources", note=note)
        else:
            self._finish(REFUSED, error="not_executable", note=note)

    # -- its output ----------------------------------------------------------------------------

    @property
    def _is_told_live(self) -> bool:
        return self._streams and self._attached and self._linked

    def _room(self) -> int:
        """How much may be read now; everything, where nobody is told live or the end has come."""
        if not self._is_told_live or self._ending is not None:
            return CHUNK_BYTES
        return min(self._credit, CHUNK_BYTES) if self._desk.has_room() else 0

    def _resume(self) -> None:
        if self._child is not None and self._room() > 0:
            self._child.resume()

    def _on_output(self, stream: int, data: bytes) -> None:
        offset = self._captures[stream].total_bytes
        self._captures[stream].append(data)
        self._desk.progress()
        if self._is_told_live and len(data) <= self._credit and self._desk.has_room():
            self._credit -= len(data)
            self._desk.send_data(stream, offset, data)
        if self._silence is not None:
            self._wait_for_silence()

    # -- its end -------------------------------------------------------------------------------

    def _on_ended(self) -> None:
        """The command has exited, or its output is at its end."""
        assert self._child is not None
        if self._ending is not None or self._child.status is None:
            return
        if self._child.is_at_end:
            self._finish_exited()
        elif self._silence is None:
            self._wait_for_silence()
            self._timers.append(self._loop.call_later(LAST_OUTPUT_MOST_S, self._on_silence))

    def _wait_for_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self._loop.call_later(LAST_OUTPUT_S, self._on_silence)

    def _on_silence(self) -> None:
        """Nothing more came; unless somebody only has not made room for it."""
        if self._child is None or self._finished or self._ending is not None:
            return
        if self._child.is_held_up:
            self._wait_for_silence()
        else:
            self._finish_exited()

    def _finish_exited(self) -> None:
        assert self._child is not None
        status = self._child.status
        assert status is not None
        if status < 0:
            is_oom = status == -9 and trees.was_out_of_memory()
            note = "killed by the system: the job's memory was used up" if is_oom else ""
            error = "oom" if is_oom else None
            self._conclude(128 - status, signal_number=-status, error=error, note=note)
        else:
            self._conclude(status)

    def _on_timeout(self) -> None:
        if self._ending is not None or self._finished or self._child is None:
            return
        if self._child.status is not None:
            # It ended in time: only its reader did not.
            self._finish_exited()
        else:
            self._kill("timeout")

    def _kill(self, why: str) -> None:
        self._ending = why
        self._resume()
        pid = None if self._child is None else self._child.pid
        self._step(trees.kill_own_tree(trees.TIME_OUT, main_pid=pid))

    def _step(self, kill: trees.TreeKill) -> None:
        wait_s = kill.step(self._loop.clock())
        self._reaper.collect()
        if wait_s is not None:
            self._loop.call_later(wait_s, lambda: self._step(kill))
            return
        survivors = kill.survivors
        left = f"; processes {survivors} are stuck in the kernel" if survivors else ""
        if self._ending == "timeout":
            seconds = self._loop.clock() - self._started_s
            note = f"timed out, ended after {seconds:.1f} s{left}"
            self._conclude(TIMED_OUT, error="timeout", note=note)
            return
        status = None if self._child is None else self._child.status
        code = 137 if status is None else status if status >= 0 else 128 - status
        signal_number = -status if status is not None and status < 0 else None
        note = f"ended: {self._ending}{left}"
        self._conclude(code, signal_number, error=self._ending, note=note)

    def _conclude(
        self, code: int, signal_number: int | None = None, error: str | None = None, note: str = ""
    ) -> None:
        """Finish; a crontab that was not replaced is looked after first."""
        if self._finished:
            return
        self._stop_timers()
        keeper, self._keeper = self._keeper, None
        if keeper is None or code == 0:
            self._finish(code, signal_number, error, note)
            return
        self._ending = self._ending or "crontab"

        def on_verified(words: str) -> None:
            self._finish(code, signal_number, error, f"{note}; {words}" if note else words)

        keeper.verify(on_verified)

    def _finish(
        self, code: int, signal_number: int | None = None, error: str | None = None, note: str = ""
    ) -> None:
        if self._finished:
            return
        duration_ms = round((self._loop.clock() - self._started_s) * 1000)
        self._stop_timers()
        if self._child is not None:
            self._child.on_ended = lambda: None
            self._child.close()
        self._reaper.collect()
        self._finished = True
        self._desk.finish(
            CommandEnded(
                code=code,
                signal=signal_number,
                duration_ms=duration_ms,
                stdout=self._captures[STREAM_STDOUT].captured(),
                stderr=self._captures[STREAM_STDERR].captured(note),
                error=error,
            )
        )

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        if self._silence is not None:
            self._silence.cancel()
        self._timers, self._silence = [], None


def _environment(spec: AdminSpec, account: Account, job_id: str) -> dict[str, str]:
    """The account's own variables may take their time to look up: that is why it is done here."""
    names = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    return {**names, "SHELL": account.shell, **spec.env, "JACKLINE_JOB": job_id}
