"""Records of running jobs, and spooled results, in the state directory's `jobs/`.

A record is written before its job begins and removed after its final result is stored in the
outbox: whatever is found here at start is a job to adopt, or to report as lost. A spool holds the
result (and the unread output) of a job that ended while there was no agent.

Rules: every file is written to a temporary name, fsynced and renamed (the spool, which a worker
with a lesser user writes through a descriptor opened earlier, carries a checksum instead). Files
are opened O_NOFOLLOW | O_NONBLOCK, must be regular, ours, and small.
"""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from typing import Any

import msgspec

from workers.errors import RecordError
from workers.messages import Result

MAX_FILE_BYTES = 4 << 20
EXIT_NO_SPOOL = 73  # a worker's exit code when it cannot make its spool (sysexits: EX_CANTCREAT)
RECORD = ".job"
_O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_O_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a new agent must know to find, trust and describe a job.

    `wire` is what the family needs to answer the server (session, token, command …).
    """

    job_id: str  # of this one process: worker_id and a random part; names files, marks children
    worker_id: str  # what admins see; stays the same when the worker is restarted or adopted
    kind: str
    key: str  # the server's name for it: session, jobId, user …
    pid: int
    start_time: int
    boot_id: str
    address: str
    token: bytes
    lease_s: float | None = None
    wire: dict[str, Any] = {}


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """A final result that waits for an agent, with terminal output that nobody has read yet."""

    result: Result
    offset: int = 0
    unread: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder(JobRecord)
_spools = msgspec.msgpack.Decoder(Spool)


def worker_id_of(kind: str, key: str) -> str:
    """Return the stable, printable id of a job's worker: what `jackline worker list` shows.

    Two keys never share one in practice (64 bits of SHA-256), and no text of a server becomes
    part of a file name.
    """
    import hashlib  # half a megabyte that no worker needs

    return f"{kind}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def directory(state_dir: str) -> str:
    """Return the directory of the records, made if need be."""
    path = os.path.join(state_dir, "jobs")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def record_path(state_dir: str, job_id: str) -> str:
    """Return where a job's record is kept."""
    return os.path.join(state_dir, "jobs", f"{job_id}{RECORD}")


def spool_path(state_dir: str, job_id: str) -> str:
    """Return where a job's result is kept that no agent took."""
    return os.path.join(state_dir, "jobs", f"{job_id}.spool")


def place_record(state_dir: str, record: JobRecord) -> None:
    """Write a record so that the next agent finds it; `sync_records` makes it survive a power cut.

    Raises:
        RecordError: it cannot be written (disk full, read-only): do not begin the job.
    """
    path = record_path(state_dir, record.job_id)
    fresh = f"{path}.new"
    try:
        directory(state_dir)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _O_NOFOLLOW, 0o600)
        try:
            _write(fd, _encoder.encode(record))
        finally:
            os.close(fd)
        os.replace(fresh, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise RecordError(f"{os.path.basename(path)}: {e.strerror}") from e


def sync_record(state_dir: str, job_id: str) -> None:
    """Make a placed record survive a power cut.

    Raises:
        RecordError: the disk refuses.
    """
    path = record_path(state_dir, job_id)
    try:
        fd = os.open(path, os.O_RDWR | _O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        _sync_directory(os.path.dirname(path))
    except FileNotFoundError:
        return  # the job is over already
    except OSError as e:
        raise RecordError(f"{os.path.basename(path)}: {e.strerror}") from e


def read_records(state_dir: str) -> tuple[list[JobRecord], list[str]]:
    """Return every readable record, and the names of files that are none (left in place)."""
    records: list[JobRecord] = []
    unusable: list[str] = []
    folder = directory(state_dir)
    for name in sorted(name for name in os.listdir(folder) if name.endswith(RECORD)):
        try:
            record = _records.decode(_read(os.path.join(folder, name)))
        except (RecordError, msgspec.MsgspecError, ValueError):  # ValueError: bad UTF-8
            unusable.append(name)
            continue
        if name == f"{record.job_id}{RECORD}":  # it becomes a path again when it is removed
            records.append(record)
        else:
            unusable.append(name)
    return records, unusable


def remove(state_dir: str, job_id: str) -> None:
    """Remove a job's record and spool; nothing happens if there are none."""
    for path in (record_path(state_dir, job_id), spool_path(state_dir, job_id)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def open_spool(path: str) -> int:
    """Return a descriptor for a spool, opened while the worker still has the right to.

    Raises:
        RecordError: it cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | _O_NOFOLLOW | _O_NONBLOCK, 0o600)
    except OSError as e:
        raise RecordError(f"{os.path.basename(path)}: {e.strerror}") from e


def write_spool(fd: int, spool: Spool) -> None:
    """Write a whole spool over whatever the descriptor's file held, and fsync it.

    Raises:
        RecordError: the disk refuses.
    """
    body = _encoder.encode(spool)
    content = zlib.crc32(body).to_bytes(4, "big") + body
    try:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        _write(fd, content)
        os.fsync(fd)
    except OSError as e:
        raise RecordError(f"spool: {e.strerror}") from e


def read_spool(state_dir: str, job_id: str) -> Spool | None:
    """Return a job's spooled result; None if there is none, or it was never completely written."""
    try:
        content = _read(spool_path(state_dir, job_id))
        body = content[4:]
        if len(content) < 4 or zlib.crc32(body) != int.from_bytes(content[:4], "big"):
            return None
        return _spools.decode(body)
    except (RecordError, msgspec.MsgspecError, ValueError):
        return None


def _write(fd: int, content: bytes) -> None:
    """Write all of it: a nearly full disk takes a part first, without an error."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | _O_NOFOLLOW | _O_NONBLOCK)
    except OSError as e:
        raise RecordError(f"{os.path.basename(path)}: {e.strerror}") from e
    try:
        found = os.fstat(fd)
        mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not stat.S_ISREG(found.st_mode) or not mine or found.st_size > MAX_FILE_BYTES:
            raise RecordError(f"{os.path.basename(path)}: not a file of ours")
        return os.read(fd, MAX_FILE_BYTES)
    finally:
        os.close(fd)


def _sync_directory(path: str) -> None:
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
