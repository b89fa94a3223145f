"""One program on the loop: its output in pieces, its end told once, when all of it was read.

Starts in the worker's present working directory, in its own session, with default signals and an
environment that is built. Rules: never blocks; no wait beside the Reaper.
Source: posix_spawn(3), pipe(7).
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from workers.errors import BackupError
from workers.loop import Loop
from workers.reaper import Reaper

_CHUNK_BYTES = 256 << 10
_CHUNKS_PER_TURN = 4
_PIPE_BYTES = 1 << 20
_LAST_OUTPUT_S = 2.0
_FIXED = (signal.SIGKILL, signal.SIGSTOP)

Output = Callable[[bytes], object]


class Child:
    """A running program.

    Args:
        argv: `argv[0]` is the absolute program.
        env: its whole environment.
        on_output, on_error: what takes the two streams.
        stdin, stdout: descriptors to use instead of /dev/null and a pipe; they stay the caller's.

    Raises:
        BackupError: `resources`: it could not be started.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        argv: Sequence[str],
        env: Mapping[str, str],
        on_output: Output,
        on_error: Output,
        stdout: int | None = None,
        stdin: int | None = None,
    ) -> None:
        self.on_ended: Callable[[int], object] = lambda _code: None
        self._loop = loop
        self._code: int | None = None
        self._is_told = False
        self._takers: dict[int, Output] = {}
        self.pid = self._spawn(argv, env, on_output, on_error, stdout, stdin)
        reaper.watch(self.pid, self._on_exit)
        for fd in self._takers:
            loop.set_reader(fd, lambda fd=fd: self._on_readable(fd))  # type: ignore[misc]

    @property
    def is_running(self) -> bool:
        """Tell whether its end has not been seen yet; until then its pid is its own."""
        return self._code is None

    def close(self) -> None:
        """Let go of its output; nothing is told any more."""
        self._is_told = True
        for fd in list(self._takers):
            self._drop(fd)

    def _spawn(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        on_output: Output,
        on_error: Output,
        stdout: int | None,
        stdin: int | None,
    ) -> int:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
            if stdin is None
            else (os.POSIX_SPAWN_DUP2, stdin, 0)
        ]
        theirs: list[int] = []
        try:
            for number, taker in ((1, on_output), (2, on_error)):
                if number == 1 and stdout is not None:
                    actions.append((os.POSIX_SPAWN_DUP2, stdout, 1))
                    continue
                ours, other = os.pipe()
                theirs.append(other)
                self._takers[ours] = taker
                os.set_blocking(ours, False)
                _widen(ours)
                actions.append((os.POSIX_SPAWN_DUP2, other, number))
            return os.posix_spawn(
                argv[0],
                [os.fsencode(each) for each in argv],
                {name.encode(): value.encode() for name, value in env.items()},
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=[each for each in signal.valid_signals() if each not in _FIXED],
            )
        except OSError as e:
            self.close()
            raise BackupError("resources", f"{argv[0]} cannot be started: {e.strerror}") from e
        finally:
            for fd in theirs:
                os.close(fd)

    def _on_readable(self, fd: int) -> None:
        for _ in range(_CHUNKS_PER_TURN):
            if fd not in self._takers or not self._read(fd):
                break
        self._tell()

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._drop(fd)
            return False
        self._takers[fd](data)
        return True

    def _drop(self, fd: int) -> None:
        self._loop.forget(fd)
        del self._takers[fd]
        with contextlib.suppress(OSError):
            os.close(fd)

    def _on_exit(self, code: int) -> None:
        self._code = code
        self._tell()
        if not self._is_told:
            # A grandchild (ssh's ControlMaster, a hook's daemon) may hold the pipe open for ever.
            self._loop.call_later(_LAST_OUTPUT_S, self._give_up)

    def _give_up(self) -> None:
        for fd in list(self._takers):
            self._drop(fd)
        self._tell()

    def _tell(self) -> None:
        if self._code is not None and not self._takers and not self._is_told:
            self._is_told = True
            self.on_ended(self._code)


def _widen(fd: int) -> None:
    """Fewer wake-ups for a long list; the default does too, where the system says no."""
    if sys.platform != "linux":
        return
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
