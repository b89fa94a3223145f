"""`agent-watch`: kills an agent whose core has gone silent, so that supervisord starts a new one.

Run by supervisord as `[eventlistener:agent-watch]`. It hears the agent's pulses
(`PROCESS_LOG_STDOUT`), its starts and ends (`PROCESS_STATE`) and a tick every five seconds. Rules:
silence is counted in ticks that were heard, never by a clock, so that a machine that was asleep is
not taken for a deaf agent; only SIGKILL (a stopped process ignores TERM), only through a pidfd that
was opened while the process was known to be the agent; an agent that never sent a pulse is left
alone longer, for a slow start. What ended up FATAL is started again after a pause that doubles.
Source: architecture "supervisord"; supervisor's event listener protocol.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO

PULSE = b"JACKLINE-PULSE"
TICK_S = 5
# 3 silent ticks are 10 to 15 s without a pulse of every 2 s; with the start of a new agent it is
# back online within 30 s of the moment it went silent.
SILENT_TICKS = 3
FIRST_PULSE_TICKS = 12
FATAL_RETRY_S = 60
FATAL_LONGEST_S = 900


class Target:
    """The agent's process, held so that its number cannot come to mean another one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = self._open(pid)

    def kill(self) -> None:
        """SIGKILL it, if it is still there."""
        if sys.platform == "win32":
            return
        try:
            if self._fd is not None:
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @staticmethod
    def _open(pid: int) -> int | None:
        """Before kernel 5.3, and elsewhere, supervisord's word for the pid has to do."""
        if sys.platform != "linux":
            return None
        try:
            return os.pidfd_open(pid)
        except OSError:
            return None


@dataclass
class Watch:
    """What is known of the agent, and what follows from each event.

    `program` is its name in supervisord's file; `start` starts it again; `say` tells a person;
    `retry_s` is the first pause after a FATAL.
    """

    program: str
    start: Callable[[], None]
    say: Callable[[str], None]
    make_target: Callable[[int], Target] = Target
    retry_s: int = FATAL_RETRY_S
    target: Target | None = None
    has_pulse: bool = False
    silent_ticks: int = 0
    fatal_ticks: int | None = None
    fatal_times: int = 0

    def on_event(self, header: Mapping[str, str], body: bytes) -> None:
        """Take one event of supervisord."""
        name = header.get("eventname", "")
        if name.startswith("TICK"):
            self._on_tick()
            return
        line, _, data = body.partition(b"\n")
        told = parse_tokens(line)
        if told.get("processname") != self.program:
            return
        if name == "PROCESS_LOG_STDOUT":
            self._on_output(told, data)
        elif name == "PROCESS_STATE_FATAL":
            self._on_fatal()
        elif name in ("PROCESS_STATE_STARTING", "PROCESS_STATE_RUNNING"):
            self._on_alive(told)
        elif name.startswith("PROCESS_STATE"):
            self._forget()

    def _on_alive(self, told: Mapping[str, str]) -> None:
        self.fatal_ticks = None
        pid = _pid(told)
        if pid and (self.target is None or self.target.pid != pid):
            self._forget()
            self.target = self.make_target(pid)

    def _on_output(self, told: Mapping[str, str], data: bytes) -> None:
        if PULSE not in data:
            return
        self._on_alive(told)
        self.has_pulse = True
        self.silent_ticks = 0
        self.fatal_times = 0

    def _on_tick(self) -> None:
        if self.fatal_ticks is not None:
            self._count_fatal()
            return
        if self.target is None:
            return
        self.silent_ticks += 1
        if self.silent_ticks >= (SILENT_TICKS if self.has_pulse else FIRST_PULSE_TICKS):
            seconds = self.silent_ticks * TICK_S
            self.say(f"no pulse of {self.program} for {seconds} s: killing pid {self.target.pid}")
            self.target.kill()
            self.silent_ticks = 0  # supervisord tells of its end; until then, once more later

    def _on_fatal(self) -> None:
        self._forget()
        pause_s = min(self.retry_s * 2**self.fatal_times, FATAL_LONGEST_S)
        self.fatal_ticks = max(1, pause_s // TICK_S)
        self.fatal_times = min(self.fatal_times + 1, 10)
        self.say(f"{self.program} is FATAL: next start in {self.fatal_ticks * TICK_S} s")

    def _count_fatal(self) -> None:
        assert self.fatal_ticks is not None
        self.fatal_ticks -= 1
        if self.fatal_ticks <= 0:
            self.fatal_ticks = None
            self.say(f"starting {self.program}, which was FATAL")
            self.start()

    def _forget(self) -> None:
        if self.target is not None:
            self.target.close()
        self.target, self.has_pulse, self.silent_ticks = None, False, 0


def parse_tokens(line: bytes) -> dict[str, str]:
    """Read `key:value key:value`, as headers and bodies of events have it."""
    words = line.decode("utf-8", "replace").split()
    return dict(word.split(":", 1) for word in words if ":" in word)


def _pid(told: Mapping[str, str]) -> int:
    text = told.get("pid", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def listen(watch: Watch, source: IO[bytes], out: IO[bytes]) -> None:
    """Speak supervisor's event listener protocol until supervisord has gone."""
    while True:
        out.write(b"READY\n")
        out.flush()
        line = source.readline()
        if not line:
            return
        header = parse_tokens(line)
        body = source.read(int(header.get("len", "0")))
        try:
            watch.on_event(header, body)
        except Exception as e:  # noqa: BLE001  # whatever one event does, the next must be heard
            watch.say(f"an event could not be handled: {e!r}")
        out.write(b"RESULT 2\nOK")
        out.flush()


def start_program(program: str, environ: Mapping[str, str]) -> None:
    """Ask supervisord to start a program again; needs its `[rpcinterface:supervisor]`."""
    from supervisor.childutils import getRPCInterface

    getRPCInterface(dict(environ)).supervisor.startProcess(program, False)


def run(argv: list[str]) -> int:
    """Watch a program: `_watch [PROGRAM [SECONDS]]`, by default `agent`, 60 s after a FATAL."""
    program = argv[0] if argv else "agent"
    retry_s = int(argv[1]) if len(argv) > 1 else FATAL_RETRY_S

    def say(sentence: str) -> None:
        print(f"agent-watch: {sentence}", file=sys.stderr, flush=True)

    def start() -> None:
        start_program(program, os.environ)

    listen(Watch(program, start, say, retry_s=retry_s), sys.stdin.buffer, sys.stdout.buffer)
    return 0
