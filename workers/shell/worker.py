"""One shell session: a terminal, a ring of its last output, and the consumer's credit.

While somebody reads, output goes out as credit allows and the terminal is not read beyond it, so
that a flood blocks in the program that makes it. While nobody does (no agent, or no link), reading
goes on, the ring keeps the last MiB, and the reader is told of the gap. Source: contract 1.2, 1.3,
1.7 `credit` and `resume`.
"""

from __future__ import annotations

import os
import sys

from workers import trees
from workers.errors import TerminalError
from workers.kind import Desk
from workers.loop import Timer
from workers.messages import (
    STREAM_TERMINAL,
    Acked,
    Credit,
    End,
    Gap,
    Linked,
    Replay,
    Resize,
    Running,
    ShellEnded,
    ShellSpec,
    Spec,
    ToWorker,
)
from workers.reaper import Reaper
from workers.shell.ring import Ring
from workers.shell.terminal import Terminal, open_terminal

# Each event costs every thread on its way about as much as its first 16 KiB; on a slow link, larger
# ones keep the other sessions waiting.
CHUNK_BYTES = 32 << 10
MAX_INPUT_BYTES = 4 << 20
RESIZE_GAP_S = 0.05
# After the shell's exit a background process may hold the terminal open: the output ends with its
# silence, or with our patience.
LAST_OUTPUT_S = 0.2
LAST_OUTPUT_MOST_S = 1.0


def make(desk: Desk) -> ShellWorker:
    """Return the worker of one session."""
    return ShellWorker(desk)


class ShellWorker:
    """See `workers.kind.Worker`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ring = Ring()
        self._sent = 0
        self._credit_to = 0
        self._attached = True
        self._linked = True
        self._terminal: Terminal | None = None
        self._reaper = Reaper()
        self._reaper.attach(desk.loop)
        self._pid: int | None = None
        self._status: int | None = None
        self._is_drained = False  # every slave descriptor is closed, and all output was read
        self._ended: ShellEnded | None = None
        self._end_reason: str | None = None
        self._size: tuple[int, int] | None = None
        self._resize_timer: Timer | None = None
        self._silence: Timer | None = None

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, ShellSpec)
        self._ring = Ring(spec.first_offset)
        self._sent = self._credit_to = spec.first_offset
        self._ring.append(spec.notice)
        home, env = _account(spec)
        env["JACKLINE_JOB"] = self._desk.job_id
        try:
            terminal = open_terminal(
                self._desk.loop, spec.argv, env, spec.cwd or home, spec.cols, spec.rows
            )
        except TerminalError as e:
            self._finish("pty unavailable", detail=str(e))
            return
        except OSError as e:
            code = 127 if isinstance(e, FileNotFoundError) else 126
            self._finish("exit", code=code, detail=f"{spec.argv[0]}: {e.strerror}")
            return
        terminal.on_output = self._on_output
        terminal.on_end = self._on_terminal_end
        self._terminal, self._pid = terminal, terminal.pid
        self._reaper.watch(terminal.pid, self._on_exit)
        self._desk.send(Running(child_pid=terminal.pid))
        self._regulate()

    def on_data(self, data: bytes) -> None:
        if self._terminal is None or self._end_reason is not None:
            return
        if self._terminal.pending_bytes + len(data) > MAX_INPUT_BYTES:
            self.end("too_large")
            return
        self._terminal.write(data)

    def on_message(self, message: ToWorker) -> None:
        match message:
            case Credit():
                self._credit_to += message.bytes
                self._pump()
            case Acked():
                self._ring.release(min(message.offset, self._sent))
            case Replay():
                self._replay(message)
            case Linked():
                self._linked = message.up
                self._regulate()
            case Resize():
                self._resize(message)
            case End():
                self.end(message.reason)
            case _:
                return

    def on_attached(self) -> None:
        # A new agent says with Replay where to go on.
        self._attached, self._linked = True, False

    def on_detached(self) -> None:
        self._attached = False
        self._regulate()

    def on_room(self) -> None:
        self._pump()

    def end(self, reason: str) -> None:
        if self._end_reason is not None or self._ended is not None:
            return
        self._end_reason = reason
        self._stop_timers()
        if self._terminal is not None:
            self._terminal.close()
        self._kill(trees.kill_own_tree(trees.CLOSE_SHELL, main_pid=self._pid))

    def position(self) -> tuple[int | None, int, int]:
        return self._pid, self._ring.end, self._ring.kept_from

    def unread(self) -> tuple[int, bytes]:
        return self._ring.kept_from, self._ring.read(
            self._ring.kept_from, self._ring.end - self._ring.kept_from
        )

    def _on_output(self, data: bytes) -> None:
        self._ring.append(data)
        self._desk.progress()
        if self._silence is not None:
            self._wait_for_silence()
        self._pump()

    def _pump(self) -> None:
        """Send what the consumer may have; then see whether more is to be read."""
        if self._attached and self._linked:
            if self._sent < self._ring.kept_from:
                self._desk.send(Gap(start=self._sent, end=self._ring.kept_from))
                self._credit_to += self._ring.kept_from - self._sent
                self._sent = self._ring.kept_from
            while (size := min(self._ring.end, self._credit_to) - self._sent) > 0:
                if not self._desk.has_room():
                    break
                data = self._ring.read(self._sent, min(size, CHUNK_BYTES))
                self._desk.send_data(STREAM_TERMINAL, self._sent, data)
                self._sent += len(data)
        self._regulate()

    def _regulate(self) -> None:
        """Read the terminal only as far as somebody takes it, or when nobody is there at all."""
        if self._terminal is None or self._ended is not None:
            return
        consumed = self._ring.end < self._credit_to and self._desk.has_room()
        held_up = self._attached and self._linked and not consumed
        self._terminal.pause(held_up and self._status is None)

    def _replay(self, message: Replay) -> None:
        self._sent = min(max(message.offset, 0), self._ring.end)
        self._credit_to = self._sent + message.credit
        self._linked = True
        self._ring.release(self._sent)
        self._pump()

    def _resize(self, message: Resize) -> None:
        self._size = (message.cols, message.rows)
        if self._resize_timer is None:
            self._apply_size()
            self._resize_timer = self._desk.loop.call_later(RESIZE_GAP_S, self._on_resize_gap)

    def _on_resize_gap(self) -> None:
        self._resize_timer = None
        if self._size is not None:
            self._apply_size()
            self._resize_timer = self._desk.loop.call_later(RESIZE_GAP_S, self._on_resize_gap)

    def _apply_size(self) -> None:
        if self._size is not None and self._terminal is not None and self._end_reason is None:
            self._terminal.resize(*self._size)
        self._size = None

    def _on_terminal_end(self) -> None:
        """A program may go on without a terminal: only its exit is its end."""
        self._is_drained = True
        if self._status is not None:
            self._on_silence()

    def _on_exit(self, status: int) -> None:
        self._status = status
        if self._is_drained:
            self._desk.loop.call_soon(self._on_silence)
        elif self._end_reason is None:
            self._wait_for_silence()
            self._regulate()
            self._desk.loop.call_later(LAST_OUTPUT_MOST_S, self._on_silence)

    def _wait_for_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self._desk.loop.call_later(LAST_OUTPUT_S, self._on_silence)

    def _on_silence(self) -> None:
        """The terminal is at its end, or its shell is and nothing more came."""
        if self._end_reason is None and self._ended is None:
            self._stop_timers()
            self._finish("exit")

    def _kill(self, kill: trees.TreeKill) -> None:
        wait_s = kill.step(self._desk.loop.clock())
        if wait_s is not None:
            self._desk.loop.call_later(wait_s, lambda: self._kill(kill))
            return
        survivors = kill.survivors
        detail = f"left in the kernel: {survivors}" if survivors else None
        self._finish(self._end_reason or "closed", detail=detail)

    def _finish(self, reason: str, code: int | None = None, detail: str | None = None) -> None:
        if self._terminal is not None:
            self._terminal.close()
        self._reaper.collect()
        status = self._status
        signal_number = -status if status is not None and status < 0 else None
        if reason == "exit" and signal_number == 9 and trees.was_out_of_memory():
            reason = "oom"
        if code is None and status is not None and status >= 0:
            code = status
        self._ended = ShellEnded(
            reason=reason, code=code, signal=signal_number, detail=detail, offset=self._ring.end
        )
        self._desk.finish(self._ended)

    def _stop_timers(self) -> None:
        for timer in (self._silence, self._resize_timer):
            if timer is not None:
                timer.cancel()
        self._silence = self._resize_timer = None


def _account(spec: ShellSpec) -> tuple[str, dict[str, str]]:
    """Return the home of the account that this worker runs as, and the shell's environment."""
    if sys.platform == "win32":
        return os.path.expanduser("~"), dict(spec.env)
    from workers.accounts import own

    account = own()
    names = {"USER": account.name, "LOGNAME": account.name, "HOME": account.home}
    return account.home, {**names, "SHELL": spec.argv[0], **spec.env}
