"""Workers on Windows: no fork, no zygote; each is a fresh `jackline _worker`.

The Spawn request goes in on its standard input, so that no argument holds the token; its line on
standard output says that it listens. A thread for each worker waits for that line and for its end.
Same interface as `nursery_posix`. Written and type-checked; tested with a stand-in for the process.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from typing import IO, Protocol

from agent.log import Log
from workers.loop import Loop
from workers.messages import encode
from workers.messages_zygote import Exited, Spawn, Spawned, SpawnFailed
from workers.processes import start_time
from workers.program import own_command

OnSpawned = Callable[[Spawned | SpawnFailed], object]


class Process(Protocol):
    """What is needed of `subprocess.Popen`."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def wait(self) -> int:
        """Return the exit code."""


Start = Callable[[list[str]], Process]


class Nursery:
    """Starts workers one by one; see `nursery_posix.Nursery`.

    Args:
        on_exited: called with every worker's end.
        start: starts a process with pipes for its input and output; a test passes its own.
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
        start: Start | None = None,
    ) -> None:
        self._loop = loop
        self._state_dir = state_dir
        self._on_exited = on_exited
        self._log = log
        self._begin = start or _start
        self.pid: int | None = None
        self.is_failing = False

    def connect(self) -> None:
        """There is nobody to connect to."""

    def quit(self) -> None:
        """There is nobody to end."""

    def close(self) -> None:
        """There is nobody to leave."""

    def spawn(self, spawn: Spawn, on_answer: OnSpawned) -> None:
        """Start a worker; `on_answer` is called once, on the core thread."""
        thread = threading.Thread(
            target=self._run, args=(spawn, on_answer), name="worker-process", daemon=True
        )
        thread.start()

    def _run(self, spawn: Spawn, on_answer: OnSpawned) -> None:
        """In the worker's own thread: start it, wait for its line, wait for its end."""
        try:
            process = self._begin([*own_command(), "_worker", self._state_dir])
            assert process.stdin is not None and process.stdout is not None
            with process.stdin:
                process.stdin.write(encode(spawn))
            is_listening = process.stdout.readline().startswith(b"listening")
        except OSError as e:
            failed = SpawnFailed(job_id=spawn.job_id, error=str(e))
            self._loop.call_threadsafe(lambda: on_answer(failed))
            return
        answer: Spawned | SpawnFailed = SpawnFailed(job_id=spawn.job_id, error="it did not start")
        if is_listening:
            started = start_time(process.pid) or 0
            answer = Spawned(job_id=spawn.job_id, pid=process.pid, start_time=started)
        self._loop.call_threadsafe(lambda: on_answer(answer))
        exited = Exited(job_id=spawn.job_id, pid=process.pid, status=process.wait())
        self._loop.call_threadsafe(lambda: self._on_exited(exited))


def _start(argv: list[str]) -> Process:
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
