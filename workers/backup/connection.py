"""One login at another host for all that a step does there.

The first script of ours leaves its shell waiting for an end of input that only our end brings; as
long as it waits, later scripts and rsync's own ssh go through its connection (ssh's ControlMaster),
where a step would log in up to five times, half a second each. Rules: whatever goes wrong with the
sharing, the next one logs in by itself. Source: ssh_config(5) ControlMaster, ControlPath.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import contextlib
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from workers.backup.child import Child, Output
from workers.backup.outcomes import Words
from workers.backup.steps import Job

KEEP_BYTES = 4 << 20
_MAX_PATH_BYTES = 88  # ssh adds 17 while it makes the socket, and a socket's path has 108


class Starter(Protocol):
    """Starts a program that reads from a descriptor."""

    def __call__(
        self, words: Sequence[str], on_output: Output, on_error: Output, *, stdin: int
    ) -> Child: ...


class Connection:
    """See the module.

    Args:
        folder: where the socket is made; nobody else may write there.
    """

    def __init__(self, folder: Path, start: Starter) -> None:
        self._socket = os.fspath(folder / f"ssh-{os.getpid()}")
        self._start = start
        self._child: Child | None = None
        self._stdin = -1

    @property
    def options(self) -> tuple[str, ...]:
        """What makes an ssh share the connection; nothing while there is none."""
        if self._child is None or not os.path.exists(self._socket):
            return ()
        return ("-oControlMaster=no", f"-oControlPath={self._socket}")

    def open(self, ssh: Sequence[str], host: str, script: str) -> Job[tuple[int, bytes, Words]]:
        """Log in and run a script; return its exit code, its output and its last words."""
        self.close()
        mark = os.urandom(12).hex()
        reply, said = _Reply(mark), Words()
        sharing = [] if len(self._socket.encode()) > _MAX_PATH_BYTES else self._sharing()
        whole = f"(\n{script})\nprintf '\\n{mark} %d\\n' $?\nexec cat >/dev/null\n"
        theirs, self._stdin = os.pipe()
        try:
            words = [ssh[0], *sharing, *ssh[1:], "--", host, whole]
            self._child = self._start(words, reply.take, said.feed, stdin=theirs)
        finally:
            os.close(theirs)
        self._child.on_ended = self._ended(reply)
        code: int = yield reply
        said.end()
        if not sharing:
            self.close()
        return code, reply.output, said

    def close(self) -> None:
        """Let the connection go; what still uses it breaks."""
        child, self._child = self._child, None
        if child is not None:
            child.close()
            if child.is_running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)
        self._forget()

    def _sharing(self) -> list[str]:
        return ["-oControlMaster=yes", f"-oControlPath={self._socket}", "-oControlPersist=no"]

    def _ended(self, reply: _Reply) -> Callable[[int], object]:
        def on_ended(code: int) -> None:
            self._child = None
            self._forget()
            reply.end(code)

        return on_ended

    def _forget(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        with contextlib.suppress(OSError):
            os.unlink(self._socket)


class _Reply:
    """What a script says, up to the mark behind it, or to the end of all."""

    def __init__(self, mark: str) -> None:
        self.on_ended: Callable[[int], object] = lambda _code: None
        self.output = b""
        self._mark = re.compile(rb"\n%b (\d+)\n" % mark.encode())
        self._is_told = False

    def take(self, chunk: bytes) -> None:
        if self._is_told or len(self.output) > KEEP_BYTES:
            return
        self.output += chunk
        found = self._mark.search(self.output, max(0, len(self.output) - len(chunk) - 64))
        if found is not None:
            self.output = self.output[: found.start()]
            self.end(int(found[1]))

    def end(self, code: int) -> None:
        if not self._is_told:
            self._is_told = True
            self.on_ended(code)
