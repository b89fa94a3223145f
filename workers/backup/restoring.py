"""Bringing files back: all or some, to where they came from or below another directory.

A dry run comes first and says what would be overwritten. To another directory: `DIR/<name>/<rel>`.
From another host the copy is pulled over ssh. Files that failed are listed and kept, so
that those alone can be tried again. Nothing is ever deleted. Rule: files are written into the
directory that was opened and checked: whose owner puts a link in its place meanwhile gets nothing.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
from collections.abc import Callable
from typing import Any

import msgspec

from workers import backup_request, backup_state, policy_roots
from workers.backup import (
    copies,
    hooks,
    itemize,
    outcomes,
    planning,
    restore_failures,
    sources,
)
from workers.backup.argv import Transfer
from workers.backup.copies import Copy
from workers.backup.gauge import Gauge
from workers.backup.ground import Ground
from workers.backup.itemize import Batch, Item, Meter
from workers.backup.outcomes import Words
from workers.backup.sources import Source
from workers.backup.steps import Job
from workers.errors import BackupError

MAX_NAMED = 200
MAX_KEPT = 100_000


class Back(msgspec.Struct):
    """What a restore does or would do."""

    files: int = 0
    size: int = 0
    new: int = 0
    overwrites: int = 0
    unchanged: int = 0
    named: list[str] = []
    failed: list[str] = []
    missing: list[bytes] = []  # what is not there as it should be
    unknown: list[bytes] = []  # what was asked for and is in no copy
    is_partial: bool = False


def restore(ground: Ground, gauge: Gauge) -> Job[dict[str, Any]]:
    """Restore; with `dry_run` only say what would happen.

    Raises:
        BackupError: `no_backup`, `bad_path`, `policy_denied`, `nothing_failed`, or what the
            transfer says.
    """
    wanted = _asked(ground)
    ground.meet_target()
    yield from ground.survey(ground.names)
    copy = copies.find(ground)
    if not ground.spec.paths and not ground.spec.failed and ground.spec.to is not None:
        if copies.has_dumps(ground, copy):
            wanted[hooks.DUMPS] = []
    back = Back()
    for name, paths in wanted.items():
        yield from _one(ground, gauge, copy, name, paths, back, dry_run=True)
    if len(back.unknown) == sum(map(len, wanted.values())) > 0:
        raise BackupError("unknown_path", copies.without(back.unknown))
    told = _found(ground, copy, back)
    if ground.spec.dry_run:
        return {**told, "dryRun": True}
    gauge.set_total(back.size)
    for name, paths in wanted.items():
        yield from _one(ground, gauge, copy, name, paths, back, dry_run=False)
    gauge.end()
    failed = yield from _failed(ground, gauge, copy, wanted, back)
    return {
        **told,
        "failed": back.failed,
        "failedPaths": [each.decode("utf-8", "replace") for each in failed[:MAX_NAMED]],
        "failedFiles": len(failed),
        "partial": back.is_partial,
        "dryRun": False,
    }


def _asked(ground: Ground) -> dict[str, list[bytes]]:
    """Return for each source what of it is restored; an empty list is all."""
    spec = ground.spec
    if spec.failed:
        last = restore_failures.read(ground.folder)
        ground.spec = msgspec.structs.replace(spec, to=last.to, snapshot=last.snapshot)
        paths = [_below(ground, path) for path in last.paths]
    elif spec.paths:
        paths = [_below(ground, os.fsencode(path)) for path in spec.paths]
    else:
        return {name: [] for name in ground.names}
    found: dict[str, list[bytes]] = {}
    for name, rest in paths:
        found.setdefault(name, []).append(rest)
    return {name: [] if b"" in rests else rests for name, rests in found.items()}


def _failed(
    ground: Ground, gauge: Gauge, copy: Copy, wanted: dict[str, list[bytes]], back: Back
) -> Job[list[bytes]]:
    """Keep and return what was not brought back: all that another run would still transfer."""
    if not back.is_partial:
        restore_failures.clear(ground.folder)
        return []
    look = Back()
    for name, paths in wanted.items():
        yield from _one(ground, gauge, copy, name, paths, look, dry_run=True)
    restore_failures.write(ground.folder, ground.spec.to, copy.snapshot, look.missing)
    return look.missing


def _below(ground: Ground, path: bytes) -> tuple[str, bytes]:
    """Return which source a path means, and where in it: `src/a`, or as it was, `/data/src/a`."""
    plain = path.rstrip(b"/")
    for source in map(os.fsencode, ground.job.sources):
        if plain == source or plain.startswith(source + b"/"):
            plain = os.path.basename(source) + plain[len(source) :]
            break
    first, _, rest = plain.partition(b"/")
    name = os.fsdecode(first)
    if name not in (*ground.names, hooks.DUMPS) or {b"", b".", b".."} & set(plain.split(b"/")):
        known = ", ".join(ground.names)
        shown = path.decode("utf-8", "replace")
        raise BackupError("bad_path", f"{shown!r} begins with no source's name ({known})")
    return name, rest


def _one(
    ground: Ground,
    gauge: Gauge,
    copy: Copy,
    name: str,
    paths: list[bytes],
    back: Back,
    *,
    dry_run: bool,
) -> Job[None]:
    where, roots = _goal(ground, name)
    files_from = _list_file(ground, paths) if paths else None
    opened: list[Source] = []
    if ground.job.host is None:
        opened.append(sources.open_directory(ground.target.path(copy.place(name)), (), "no_backup"))
        gauge.begin_source(opened[0])
    if not dry_run:
        opened.append(_made(where, roots))
        opened[-1].enter()
        where = "."
    source = ground.target.argument(copy.place(name))
    transfer = Transfer(source, f"{where}/", files_from=files_from)
    prefix = os.fsencode(name)
    take = _counter(back, prefix) if dry_run else _measurer(gauge)
    try:
        code, words = yield from ground.rsync(transfer, take, dry_run=dry_run)
    finally:
        for each in opened:
            each.close()
    outcome = outcomes.judge(code, words)
    if outcome.verdict in ("again", "failed"):
        raise BackupError(outcome.error, outcome.sentence)
    if dry_run:
        _note_looked(back, prefix, paths, words)
    else:
        gauge.source_done()
        _note(back, outcome.verdict == "partial", words)


def _goal(ground: Ground, name: str) -> tuple[str, list[list[str]]]:
    """Return where it is restored to, links resolved, and what must hold that."""
    job = ground.job
    if ground.spec.to is None:
        goal = next((s for s in job.sources if backup_request.name_of(s) == name), None)
        if goal is None:
            raise BackupError("bad_path", f"{name} has no original place: say where to")
        roots = job.source_roots
    else:
        base = ground.spec.to.rstrip("/") or "/"
        if not base.startswith("/") or {".", ".."} & set(base.split("/")) or "\0" in base:
            raise BackupError("bad_path", f"{ground.spec.to!r} must be an absolute path")
        goal, roots = f"{base}/{name}", job.restore_roots
    real = os.path.realpath(goal)
    if not policy_roots.holds(roots, real):
        raise BackupError("policy_denied", f"{goal} leads to {real}, outside the allowed roots")
    backup_request.check_place(real)
    return real, roots


def _made(goal: str, roots: list[list[str]]) -> Source:
    """Make the directory if need be, open it, and look at what was opened."""
    try:
        os.makedirs(goal, exist_ok=True)
    except OSError as e:
        raise BackupError("bad_path", f"{e.filename}: {e.strerror}") from e
    opened = sources.open_directory(goal, roots, "bad_path")
    try:
        backup_request.check_place(opened.real)
    except BackupError:
        opened.close()
        raise
    return opened


def _list_file(ground: Ground, paths: list[bytes]) -> str:
    file = ground.folder / "files"
    backup_state.write_private(file, b"".join(path + b"\0" for path in paths))
    return os.fspath(file)


def _counter(back: Back, prefix: bytes) -> Callable[[Batch], None]:
    def take(batch: Batch) -> None:
        for line in batch.lines():
            if isinstance(line, Item):
                _count(back, prefix, line)

    return take


def _measurer(gauge: Gauge) -> Callable[[Batch], None]:
    def take(batch: Batch) -> None:
        for line in batch.lines():
            if isinstance(line, Item):
                gauge.item(line)
            elif isinstance(line, Meter):
                gauge.meter(line.transferred)

    return take


def _count(back: Back, prefix: bytes, item: Item) -> None:
    if item.kind not in (b"f", b"L") or item.is_deletion:
        return
    if not item.is_unchanged and len(back.missing) < MAX_KEPT:
        back.missing.append(prefix + b"/" + itemize.plain_name(item.name))
    if item.kind == b"L":
        return
    back.files += 1
    back.size += item.size
    if item.is_new:
        back.new += 1
    elif item.is_unchanged:
        back.unchanged += 1
    else:
        back.overwrites += 1
        if len(back.named) < MAX_NAMED:
            back.named.append(planning.shown(prefix, item.name))


def _note_looked(back: Back, prefix: bytes, paths: list[bytes], words: Words) -> None:
    if len(paths) == words.absent():
        back.unknown.extend(prefix + b"/" + each for each in paths)
    back.missing.extend(prefix + b"/" + each for each in words.blocked())


def _note(back: Back, is_partial: bool, words: Words) -> None:
    back.is_partial |= is_partial
    room = MAX_NAMED - len(back.failed)
    back.failed.extend(words.errors()[: max(0, room)])


def _found(ground: Ground, copy: Copy, back: Back) -> dict[str, Any]:
    return {
        "snapshot": copy.snapshot,
        "to": ground.spec.to,
        "files": back.files,
        "bytes": back.size,
        "new": back.new,
        "overwrites": back.overwrites,
        "overwritten": back.named,
        "unchanged": back.unchanged,
    }
