"""The copy against its manifest: every file's kind, size, time, mode, and its bytes read again.

On this machine the files are read here; on another host its rsync reads them (`--checksum`, a dry
run into nothing), so only checksums cross the network. A sample is drawn evenly over the manifest.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import xxhash

from workers import backup_state
from workers.backup import copies, itemize, manifest, outcomes
from workers.backup.argv import Transfer
from workers.backup.copies import Copy
from workers.backup.gauge import Gauge
from workers.backup.ground import Ground
from workers.backup.itemize import Batch, Item
from workers.backup.manifest import NONE, Entry
from workers.backup.steps import Job
from workers.errors import BackupError

SAMPLE_FILES = 1_000
MAX_NAMED = 1_000
_BLOCK_BYTES = 1 << 20
_TURN_S = 0.05


class Findings:
    """What differs, by file; the first thousand are named."""

    def __init__(self) -> None:
        self.checked = self.bytes = self.unknown = self.different = 0
        self.named: list[dict[str, str]] = []

    def add(self, name: bytes, what: str) -> None:
        """Note a file that is not as it should be."""
        self.different += 1
        if len(self.named) < MAX_NAMED:
            text = itemize.plain_name(name).decode("utf-8", "replace")
            self.named.append({"path": text, "what": what})


def verify(ground: Ground, gauge: Gauge) -> Job[dict[str, Any]]:
    """Verify a copy; raises BackupError when it cannot even be looked at."""
    ground.meet_target()
    yield from ground.survey(ground.names)
    copy = copies.find(ground)
    path, algorithm = copies.need_manifest(copy)
    total, size = yield from _measure(path)
    step = 1 if ground.spec.full else max(1, total // SAMPLE_FILES)
    gauge.set_total(size // step)
    findings = Findings()
    chosen = (entry for n, entry in enumerate(manifest.read(path)) if n % step == 0)
    if ground.job.host is None:
        yield from _read_here(ground, copy, chosen, algorithm, findings, gauge)
    else:
        yield from _read_there(ground, copy, list(chosen), algorithm, findings, gauge, step == 1)
    gauge.end()
    return {
        "full": step == 1,
        "snapshot": copy.snapshot,
        "manifestFiles": total,
        "checkedFiles": findings.checked,
        "checkedBytes": findings.bytes,
        "withoutChecksum": findings.unknown,
        "different": findings.different,
        "differences": findings.named,
        "checksum": algorithm,
    }


def _measure(path: Any) -> Job[tuple[int, int]]:
    count = size = 0
    for entry in manifest.read(path):
        count += 1
        size += entry.size
        if count % 20_000 == 0:
            yield None
    return count, size


# -- here ---------------------------------------------------------------------------------------


def _read_here(
    ground: Ground,
    copy: Copy,
    chosen: Iterator[Entry],
    algorithm: str,
    findings: Findings,
    gauge: Gauge,
) -> Job[None]:
    homes = {
        os.fsencode(name): os.fsencode(ground.target.path(copy.place(name)))
        for name in _source_names(ground)
    }
    until = time.monotonic() + _TURN_S
    for entry in chosen:
        plain = itemize.plain_name(entry.name)
        name, _, rest = plain.partition(b"/")
        what = "missing" if name not in homes else None
        if what is None:
            path = homes[name] + b"/" + rest
            what = _differs(path, entry)
            if what is None and entry.kind == b"f" and entry.checksum != NONE:
                digest = yield from _digest(path, algorithm)
                what = None if digest == entry.checksum.decode() else "checksum"
            elif entry.kind == b"f" and entry.checksum == NONE:
                findings.unknown += 1
        findings.checked += 1
        findings.bytes += entry.size
        gauge.add(entry.name, entry.size)
        if what is not None:
            findings.add(entry.name, what)
        if time.monotonic() > until:
            yield None
            until = time.monotonic() + _TURN_S


def _source_names(ground: Ground) -> list[str]:
    return [*ground.names, "dumps"]


def _differs(path: bytes, entry: Entry) -> str | None:
    try:
        found = os.lstat(path)
    except OSError as e:
        return "missing" if isinstance(e, FileNotFoundError | NotADirectoryError) else "unreadable"
    is_link = entry.kind == b"L"
    if stat.S_ISLNK(found.st_mode) is not is_link or (not is_link and not _is_file(found)):
        return "kind"
    if found.st_size != entry.size:
        return "size"
    if _time(found.st_mtime) != entry.mtime and not is_link:
        return "mtime"
    if not is_link and stat.filemode(found.st_mode)[1:].encode() != entry.mode:
        return "mode"
    return None


def _is_file(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def _time(seconds: float) -> bytes:
    return time.strftime("%Y/%m/%d-%H:%M:%S", time.gmtime(seconds // 1)).encode()


def hasher(algorithm: str) -> Any:
    """Return a fresh hash object."""
    if algorithm == "xxh128":
        return xxhash.xxh3_128()
    import hashlib  # it brings OpenSSL

    return hashlib.md5(usedforsecurity=False)


def _digest(path: bytes, algorithm: str) -> Job[str | None]:
    """Read a file in steps; None: it cannot be read."""
    digest = hasher(algorithm)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        until = time.monotonic() + _TURN_S
        while block := os.read(fd, _BLOCK_BYTES):
            digest.update(block)
            if time.monotonic() > until:
                yield None
                until = time.monotonic() + _TURN_S
    except OSError:
        return None
    finally:
        os.close(fd)
    return str(digest.hexdigest())


# -- there --------------------------------------------------------------------------------------


def _read_there(
    ground: Ground,
    copy: Copy,
    chosen: list[Entry],
    algorithm: str,
    findings: Findings,
    gauge: Gauge,
    full: bool,
) -> Job[None]:
    """Ask the other end's rsync for the checksums; compare what it says."""
    if ground.features.algorithm != algorithm:
        raise BackupError("no_manifest", f"the other end cannot make {algorithm} checksums")
    empty = ground.folder / "empty"
    empty.mkdir(mode=0o700, exist_ok=True)
    os.chdir(empty)
    for name in _source_names(ground):
        prefix = os.fsencode(name) + b"/"
        wanted = {e.name[len(prefix) :]: e for e in chosen if e.name.startswith(prefix)}
        if not wanted:
            continue
        transfer = Transfer(
            source=ground.target.argument(copy.place(name)),
            dest="./",
            files_from=None if full else _list_file(ground, wanted),
            by_checksum=True,
        )
        take = _comparer(wanted, findings, gauge)
        code, words = yield from ground.rsync(transfer, take, dry_run=True)
        outcome = outcomes.judge(code, words)
        if outcome.verdict in ("again", "failed"):
            raise BackupError(outcome.error, outcome.sentence)
        for entry in wanted.values():
            findings.checked += 1
            findings.add(entry.name, "missing")


def _list_file(ground: Ground, wanted: Iterable[bytes]) -> str:
    path = ground.folder / "files"
    listed = b"".join(itemize.plain_name(name) + b"\0" for name in wanted)
    backup_state.write_private(path, listed)
    return os.fspath(path)


def _comparer(
    wanted: dict[bytes, Entry], findings: Findings, gauge: Gauge
) -> Callable[[Batch], None]:
    """Take each file out of `wanted` as the other end names it."""

    def take(batch: Batch) -> None:
        for line in batch.lines():
            if not isinstance(line, Item) or line.kind not in (b"f", b"L"):
                continue
            entry = wanted.pop(line.name, None)
            if entry is None:
                continue
            what = _item_differs(line, entry)
            findings.checked += 1
            findings.bytes += entry.size
            findings.unknown += entry.kind == b"f" and entry.checksum == NONE
            gauge.add(entry.name, entry.size)
            if what is not None:
                findings.add(entry.name, what)

    return take


def _item_differs(item: Item, entry: Entry) -> str | None:
    if item.kind != entry.kind:
        return "kind"
    if item.size != entry.size:
        return "size"
    if item.kind == b"L":
        return None
    if item.mtime != entry.mtime:
        return "mtime"
    if item.mode != entry.mode:
        return "mode"
    if entry.checksum != NONE and item.checksum and item.checksum != entry.checksum:
        return "checksum"
    return None
