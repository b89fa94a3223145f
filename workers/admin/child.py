"""One child process on the loop: fed, read as far as somebody takes it, and told when it ended.

Its own session, default signal dispositions, no descriptor but the three. Rules: never blocks; no
wait beside the Reaper. Source: contract 1.4; posix_spawn(3), pipe(7).
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from workers.loop import Loop
from workers.messages import STREAM_STDERR, STREAM_STDOUT

assert sys.platform != "win32"

from workers.reaper import Reaper  # noqa: E402 - POSIX from here on

CHUNK_BYTES = 64 << 10
# So much at one time, then timers and mail have their turn.
_CHUNKS_PER_TURN = 8
_PIPE_BYTES = 256 << 10
_FIXED = (signal.SIGKILL, signal.SIGSTOP)


def _ignore(*_: object) -> None:
    return None


class Child:
    """A running program.

    Args:
        argv: `argv[0]` is the absolute program.
        env: its whole environment.
        stdin: fed, then closed; nothing: /dev/null.
        room: how many bytes may be read now; 0: none until `resume`.

    Raises:
        OSError: it could not be started; nothing is left open.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: bytes = b"",
        room: Callable[[], int] = lambda: CHUNK_BYTES,
    ) -> None:
        self.on_output: Callable[[int, bytes], object] = _ignore
        self.on_ended: Callable[[], object] = _ignore
        self.status: int | None = None
        self._is_held = False
        self._loop = loop
        self._room = room
        self._input = memoryview(stdin)
        self._pipes: dict[int, int] = {}
        self._stdin: int | None = None
        self.pid = self._spawn(argv, env)
        reaper.watch(self.pid, self._on_exit)
        for fd in self._pipes:
            loop.set_reader(fd, lambda fd=fd: self._on_readable(fd))  # type: ignore[misc]
        if self._stdin is not None:
            loop.set_writer(self._stdin, self._feed)

    @property
    def is_at_end(self) -> bool:
        """Has all output come, so that nobody can write any more?"""
        return not self._pipes

    @property
    def is_held_up(self) -> bool:
        """Is there output that waits for room?"""
        return self._is_held and any(_has_unread(fd) for fd in self._pipes)

    def resume(self) -> None:
        """There is room again."""
        if self._is_held:
            self._is_held = False
            for fd in self._pipes:
                self._loop.set_reader(fd, lambda fd=fd: self._on_readable(fd))  # type: ignore[misc]

    def close(self) -> None:
        """Read what is there now, room or not, and let go of the pipes."""
        self._room = lambda: CHUNK_BYTES
        for fd in list(self._pipes):
            for _ in range(_PIPE_BYTES // CHUNK_BYTES + 1):
                if not self._read(fd):
                    break
        for fd in list(self._pipes):
            self._drop(fd)
        self._close_stdin()

    def _spawn(self, argv: Sequence[str], env: Mapping[str, str]) -> int:
        pairs: list[tuple[int, int]] = []
        try:
            pairs.append(os.pipe())
            pairs.append(os.pipe())
            actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
                (os.POSIX_SPAWN_DUP2, pairs[0][1], 1),
                (os.POSIX_SPAWN_DUP2, pairs[1][1], 2),
            ]
            if self._input:
                pairs.append(os.pipe())
                actions.append((os.POSIX_SPAWN_DUP2, pairs[2][0], 0))
            else:
                actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
            pid = os.posix_spawn(
                argv[0],
                [each.encode() for each in argv],
                {name.encode(): value.encode() for name, value in env.items()},
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=[each for each in signal.valid_signals() if each not in _FIXED],
            )
        except OSError:
            for pair in pairs:
                os.close(pair[0])
                os.close(pair[1])
            raise
        self._keep_our_ends(pairs)
        return pid

    def _keep_our_ends(self, pairs: list[tuple[int, int]]) -> None:
        for stream, (ours, theirs) in zip((STREAM_STDOUT, STREAM_STDERR), pairs, strict=False):
            os.close(theirs)
            os.set_blocking(ours, False)
            _widen(ours)
            self._pipes[ours] = stream
        if len(pairs) > 2:
            os.close(pairs[2][0])
            self._stdin = pairs[2][1]
            os.set_blocking(self._stdin, False)

    def _on_readable(self, fd: int) -> None:
        for _ in range(_CHUNKS_PER_TURN):
            if fd not in self._pipes or not self._read(fd):
                break
        if not self._pipes:
            self._end()

    def _read(self, fd: int) -> bool:
        """Take one piece; tell whether there may be more."""
        size = min(CHUNK_BYTES, self._room())
        if size <= 0:
            self._is_held = True
            for each in self._pipes:
                self._loop.set_reader(each, None)
            return False
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            return False
        if not data:
            self._drop(fd)
            return False
        self.on_output(self._pipes[fd], data)
        return len(data) == size

    def _drop(self, fd: int) -> None:
        self._loop.forget(fd)
        os.close(fd)
        del self._pipes[fd]

    def _feed(self) -> None:
        assert self._stdin is not None
        try:
            written = os.write(self._stdin, self._input[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except OSError:
            written = len(self._input)  # nobody reads it any more
        self._input = self._input[written:]
        if not self._input:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            self._loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = None

    def _on_exit(self, status: int) -> None:
        self.status = status
        self._end()

    def _end(self) -> None:
        """Told twice at most: the process has ended, or its output has."""
        self.on_ended()


def _has_unread(fd: int) -> bool:
    """Tell bytes from an end: a pipe without either is not ready, one at its end hangs up."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def _widen(fd: int) -> None:
    """Fewer wake-ups for a flood; the default does too, where the system says no."""
    if sys.platform != "linux":
        return
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return
