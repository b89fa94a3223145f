"""Recordings on the disk: one asciicast file per session, written by a thread of their own.

Rules: the loop only collects lines; they go to the disk every 2 s or every 256 KiB, each time with
the comment that `cast` goes on from. Files are ours alone and no link is followed. At its size cap,
or when the disk refuses it, a recording ends and says so; the session goes on.
Source: product, "Terminal"; issue 4.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import structlog

from hub import private_files
from hub.errors import HubError, SettingsError, StorageFullError
from hub.shell import cast

P = ParamSpec("P")
T = TypeVar("T")

FLUSH_BYTES = 256 << 10
FLUSH_S = 2.0
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_STOPPED = "the recording ends here: it has reached its size"
_ROOM = 512
_SCROLLBACK_BYTES = 64 << 10
_TAIL_BYTES = 1 << 20
_log = structlog.get_logger()


class Outcome(NamedTuple):
    """What a recording came to; None where there is no file."""

    size: int | None
    sha256: str | None
    is_truncated: bool
    has_failed: bool


class Recording:
    """One session's recording, as the loop sees it.

    Args:
        on_flushed: called on the loop when more of it is on the disk.
        offset: of the first byte of output that is not in it.
        at_s: what its lines so far tell of, in seconds.
        began_s: on the monotonic clock.
        is_lost: there is no file, and there will be none.
    """

    def __init__(
        self,
        thread: ThreadPoolExecutor,
        path: Path,
        max_bytes: int,
        *,
        offset: int = 0,
        at_s: float = 0.0,
        began_s: float | None = None,
        is_lost: bool = False,
    ) -> None:
        self.on_flushed: Callable[[], None] = lambda: None
        self.scrollback = b""
        self.end = offset
        self._thread = thread
        self._path = path
        self._max_bytes = max_bytes
        self._began_s = time.monotonic() if began_s is None else began_s
        self._writer = cast.Writer(at_s)
        self._lines: list[bytes] = []
        self._pending = 0
        self._size = 0 if is_lost else path.stat().st_size
        self._flushed_to = offset
        self._on_the_way = 0
        self.is_truncated = False
        self.has_failed = is_lost

    @property
    def flushed_to(self) -> int | None:
        """Return below which offset the output is on the disk; None: it records no more."""
        return None if self._is_over else self._flushed_to

    @property
    def backlog(self) -> int:
        """Return how many bytes are not yet on the disk."""
        return self._pending + self._on_the_way

    def output(self, offset: int, data: bytes) -> None:
        """Add output; what it has already is left out."""
        fresh = data[self.end - offset :] if offset < self.end else data
        if not fresh:
            return
        if offset > self.end:
            self.lost(offset)
        self.end += len(fresh)
        self._add("o", fresh.decode(errors="replace"))

    def lost(self, offset: int) -> None:
        """Say that the output up to an offset will never come."""
        if offset > self.end:
            self._add("m", f"{offset - self.end} bytes of output were lost")
            self.end = offset

    def resize(self, cols: int, rows: int) -> None:
        """Add a change of size."""
        self._add("r", f"{cols}x{rows}")

    def flush(self) -> None:
        """Send what has gathered to the disk."""
        if not self._lines or self.has_failed:
            return
        data = b"".join(self._lines) + self._writer.mark(self.end)
        self._lines.clear()
        self._size += len(data) - self._pending
        self._pending, self._on_the_way = 0, self._on_the_way + len(data)
        end = self.end
        job = asyncio.get_running_loop().run_in_executor(self._thread, _append, self._path, data)
        job.add_done_callback(lambda done: self._on_written(done, end, len(data)))

    async def finish(self, code: int | None) -> Outcome:
        """Write what is left and the exit code; return what the file is."""
        if code is not None:
            self._add("x", str(code))
        self.flush()
        found = await measured(self._thread, self._path)
        return found._replace(
            is_truncated=self.is_truncated, has_failed=found.has_failed or self.has_failed
        )

    @property
    def _is_over(self) -> bool:
        return self.is_truncated or self.has_failed

    def _add(self, code: cast.Code, data: str) -> None:
        if self._is_over:
            return
        at_s = time.monotonic() - self._began_s
        line = self._writer.event(at_s, code, data)
        if self._size + len(line) + _ROOM > self._max_bytes:
            self._lines.append(self._writer.event(at_s, "m", _STOPPED))
            self.flush()
            self.is_truncated = True
            return
        self._lines.append(line)
        self._size += len(line)
        self._pending += len(line)
        if self._pending >= FLUSH_BYTES:
            self.flush()

    def _on_written(self, done: asyncio.Future[None], end: int, size: int) -> None:
        self._on_the_way -= size
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            if not self.has_failed:
                _log.error("recording ended: the disk refuses it", error=str(error))
            self.has_failed = True
        else:
            self._flushed_to = max(self._flushed_to, end)
        self.on_flushed()


class Recordings:
    """The folder of all recordings: `recordings/<tenant>/<session>.cast`."""

    def __init__(self, state_dir: Path, max_bytes: int) -> None:
        self._folder = state_dir / "recordings"
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recordings")

    def path(self, tenant_id: str, session_id: str) -> Path:
        """Return where a session's recording is."""
        return self._folder / tenant_id / f"{session_id}.cast"

    async def begin(
        self, tenant_id: str, session_id: str, cols: int, rows: int, started_ms: int, title: str
    ) -> Recording:
        """Make the file of a new session.

        Raises:
            StorageFullError: it cannot be made; then the session is not opened either.
        """
        path = self.path(tenant_id, session_id)
        head = cast.header(cols, rows, started_ms // 1000, title)
        await self._run(_create, path, head + cast.Writer().mark(0))
        return Recording(self._thread, path, self._max_bytes)

    async def go_on(self, tenant_id: str, session_id: str, age_s: float) -> Recording | None:
        """Open the file of a session that an earlier hub process recorded; None: it is lost.

        Args:
            age_s: seconds since the session began.
        """
        path = self.path(tenant_id, session_id)
        try:
            mark, scrollback = await self._run(_mend, path)
        except StorageFullError:
            return None
        began_s = time.monotonic() - max(age_s, mark.at_s)
        found = Recording(
            self._thread,
            path,
            self._max_bytes,
            offset=mark.offset,
            at_s=mark.at_s,
            began_s=began_s,
        )
        found.scrollback = scrollback
        return found

    def lost(self, tenant_id: str, session_id: str) -> Recording:
        """Return what stands for a recording whose file is gone."""
        path = self.path(tenant_id, session_id)
        return Recording(self._thread, path, self._max_bytes, is_lost=True)

    async def measure(self, tenant_id: str, session_id: str) -> Outcome:
        """Return what a recording came to that an earlier hub process did not finish."""
        return await measured(self._thread, self.path(tenant_id, session_id))

    async def remove(self, tenant_id: str, session_id: str) -> None:
        """Delete a recording; it may be gone."""
        await self._run(lambda path: path.unlink(missing_ok=True), self.path(tenant_id, session_id))

    def close(self) -> None:
        """Write what is under way, then end the thread."""
        self._thread.shutdown()

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: work(*args, **kwargs))
        except (OSError, SettingsError) as error:
            _log.error("recordings: the disk refuses", error=str(error))
            raise StorageFullError(
                "sessions are recorded, and the hub's disk refuses it"
            ) from error


async def measured(thread: ThreadPoolExecutor, path: Path) -> Outcome:
    """Return size and digest of what is on the disk, behind everything under way."""
    loop = asyncio.get_running_loop()
    try:
        size, digest = await loop.run_in_executor(thread, _measure, path)
    except OSError as error:
        _log.error("recording lost", error=error.strerror)
        return Outcome(None, None, False, True)
    return Outcome(size, digest, False, False)


def _create(path: Path, text: bytes) -> None:
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
        private_files.check_directory(folder)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)


def _append(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | _NOFOLLOW)
    with os.fdopen(fd, "ab") as file:
        file.write(data)


def _mend(path: Path) -> tuple[cast.Mark, bytes]:
    """Cut off what was being written when the hub was killed; return where to go on."""
    fd = os.open(path, os.O_RDWR | _NOFOLLOW)
    with os.fdopen(fd, "r+b") as file:
        start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
        file.seek(start)
        tail = file.read()
        mark = cast.last_mark(tail, start)
        if mark is None:
            raise FileNotFoundError(2, "no recording")
        file.truncate(mark.position)
    return mark, _scrollback(tail[: mark.position - start])


def _scrollback(tail: bytes) -> bytes:
    """Return the last output in the end of a file, as far as its bytes are known for sure."""
    text = ""
    try:
        for event in cast.events(tail.splitlines(keepends=True)[1:]):  # a header, or a torn line
            text = "" if event.code == "m" else text + event.data if event.code == "o" else text
    except HubError:
        return b""
    return text.rpartition("\ufffd")[2].encode()[-_SCROLLBACK_BYTES:]


def _measure(path: Path) -> tuple[int, str]:
    fd = os.open(path, os.O_RDONLY | _NOFOLLOW)
    with os.fdopen(fd, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()
