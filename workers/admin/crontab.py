"""Keep the crontab that is about to be replaced, and put it back when replacing it fails.

Before: `crontab -l`, and what it says is stored (0600, synced, the last ten) in the state
directory, or, where this account cannot write there, below its own home. A crontab that can be
neither read nor stored is not replaced. After a failure: `crontab -l` again, and when it says
something else, the old one is installed again (or removed, where there was none).
Rules: one step at a time, each bounded, none blocks the loop.
Source: contract 1.4 "The previous crontab is kept; a failure leaves it in place".
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.loop import Loop
from workers.messages import STREAM_STDERR, STREAM_STDOUT

assert sys.platform != "win32"

from workers.admin.child import Child  # noqa: E402 - POSIX from here on
from workers.reaper import Reaper  # noqa: E402

KEPT = 10
STEP_S = 10.0
_MAX_BYTES = 4 << 20
_NONE = (b"no crontab", b"No such file")


@dataclass(frozen=True)
class Said:
    """How one run of `crontab` ended; `status` None: it could not be run, or took too long."""

    status: int | None
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def is_no_crontab(self) -> bool:
        """There is none yet: every crontab(1) says that in words, with a code of 1."""
        return bool(self.status) and not self.stdout and any(w in self.stderr for w in _NONE)


class CrontabKeeper:
    """Around one replacement of the crontab.

    Args:
        program: crontab(1), absolute.
        env: for it; the language is ours, because its words are read.
        folders: where to store, the first that can be written.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        program: str,
        env: Mapping[str, str],
        folders: list[Path],
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._program = program
        self._env = {**env, "LC_ALL": "C", "LANGUAGE": "C"}
        self._folders = folders
        self._before: bytes | None = None
        self._path: Path | None = None

    def keep(self, then: Callable[[str | None], object]) -> None:
        """Store the present crontab; `then` gets why that failed: the command must not run."""

        def on_said(said: Said) -> None:
            if said.is_no_crontab:
                then(None)
            elif said.status != 0:
                words = said.stderr.decode(errors="replace").strip()[:500]
                then(f"the present crontab cannot be read, so it is not replaced: {words}")
            else:
                self._before = said.stdout
                then(self._store(said.stdout))

        self._run(["-l"], b"", on_said)

    def verify(self, then: Callable[[str], object]) -> None:
        """After a failure: see to it that the old crontab stands; `then` gets what to say."""

        def on_said(said: Said) -> None:
            now = None if said.is_no_crontab else said.stdout
            if now == self._before and (said.status == 0 or said.is_no_crontab):
                then("the previous crontab is in place")
            elif self._before is None:
                self._run(["-r"], b"", lambda said: then(self._restored(said)))
            else:
                self._run(["-"], self._before, lambda said: then(self._restored(said)))

        self._run(["-l"], b"", on_said)

    def _restored(self, said: Said) -> str:
        if said.status == 0:
            return "the previous crontab was put back"
        return f"the previous crontab could NOT be put back; it is kept as {self._path}"

    def _store(self, text: bytes) -> str | None:
        reason = "there is no place for it"
        for folder in self._folders:
            try:
                self._path = store(folder, text)
            except OSError as e:
                reason = f"{folder}: {e.strerror}"
            else:
                return None
        return f"the present crontab cannot be stored, so it is not replaced: {reason}"

    def _run(self, args: list[str], stdin: bytes, then: Callable[[Said], object]) -> None:
        streams = {STREAM_STDOUT: bytearray(), STREAM_STDERR: bytearray()}
        argv = [self._program, *args]
        try:
            child = Child(self._loop, self._reaper, argv, self._env, stdin)
        except OSError as e:
            then(Said(None, stderr=(e.strerror or "").encode()))
            return

        def on_output(stream: int, data: bytes) -> None:
            if len(streams[stream]) < _MAX_BYTES:
                streams[stream] += data

        def on_ended() -> None:
            if child.status is not None:
                timer.cancel()
                child.on_ended = lambda: None
                child.close()
                then(Said(child.status, *map(bytes, streams.values())))

        def on_late() -> None:
            child.on_ended = lambda: None
            child.close()
            _kill_group(child.pid)
            then(Said(None, stderr=b"it takes too long"))

        child.on_output, child.on_ended = on_output, on_ended
        timer = self._loop.call_later(STEP_S, on_late)


def store(folder: Path, text: bytes) -> Path:
    """Write `text` as the newest of the kept crontabs, unless the newest is the same.

    Raises:
        OSError: it is not stored.
    """
    for place in (*reversed(folder.parents), folder):
        if not place.is_dir():
            place.mkdir(mode=0o700)
    kept = sorted(path for path in folder.glob("crontab-*") if path.suffix != ".new")
    if kept and kept[-1].read_bytes() == text:
        return kept[-1]
    number = int(kept[-1].name.removeprefix("crontab-")) + 1 if kept else 1
    path = folder / f"crontab-{number:06}"
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    os.rename(new, path)
    _sync_folder(folder)
    for old in kept[: max(0, len(kept) + 1 - KEPT)]:
        old.unlink(missing_ok=True)
    return path


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return
