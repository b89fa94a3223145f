"""Bringing files back: all or some, to where they came from or below another directory.

A dry run comes first and says what would be overwritten. To another directory: `DIR/<name>/<rel>`.
From another host the copy is pulled over ssh. Files that failed are listed and kept in
`failed.list`, so that those alone can be tried again. Nothing is ever deleted.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
from typing import Any

import msgspec

from workers import backup_request
from workers.backup import copies, hooks, outcomes, planning, sources
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


class Back(msgspec.Struct):
    """What a restore does or would do."""

    files: int = 0
    bytes: int = 0
    new: int = 0
    overwrites: int = 0
    unchanged: int = 0
    named: list[str] = []
    failed: list[str] = []
    is_partial: bool = False


def restore(ground: Ground, gauge: Gauge) -> Job[dict[str, Any]]:
    """Restore; with `dry_run` only say what would happen.

    Raises:
        BackupError: `no_backup`, `bad_path`, `policy_denied`, or what the transfer says.
    """
    ground.meet_target()
    yield from ground.survey(ground.names)
    copy = copies.find(ground)
    wanted = _wanted(ground)
    back = Back()
    for name, paths in wanted.items():
        yield from _one(ground, gauge, copy, name, paths, back, dry_run=True)
    told = _found(ground, copy, back)
    if ground.spec.dry_run:
        return {**told, "dryRun": True}
    gauge.set_total(back.bytes)
    for name, paths in wanted.items():
        yield from _one(ground, gauge, copy, name, paths, back, dry_run=False)
    gauge.end()
    _keep_failed(ground, back)
    return {**told, "failed": back.failed, "partial": back.is_partial, "dryRun": False}


def _wanted(ground: Ground) -> dict[str, list[str]]:
    """Return for each source what of it is restored; an empty list is all."""
    if not ground.spec.paths:
        return {name: [] for name in ground.names}
    found: dict[str, list[str]] = {}
    for path in ground.spec.paths:
        name, rest = _below(ground, path)
        found.setdefault(name, []).append(rest)
    return {name: [] if "" in rests else rests for name, rests in found.items()}


def _below(ground: Ground, path: str) -> tuple[str, str]:
    """Return which source a path means, and where in it: `src/a`, or as it was, `/data/src/a`."""
    plain = path.rstrip("/")
    for source in ground.job.sources:
        if plain == source or plain.startswith(source + "/"):
            plain = backup_request.name_of(source) + plain[len(source) :]
            break
    name, _, rest = plain.partition("/")
    if name not in (*ground.names, hooks.DUMPS) or {"", ".", ".."} & set(plain.split("/")):
        known = ", ".join(ground.names)
        raise BackupError("bad_path", f"{path!r} begins with no source's name ({known})")
    return name, rest


def _one(
    ground: Ground,
    gauge: Gauge,
    copy: Copy,
    name: str,
    paths: list[str],
    back: Back,
    *,
    dry_run: bool,
) -> Job[None]:
    where = _open_goal(ground, name, make=not dry_run)
    files_from = _list_file(ground, paths) if paths else None
    origin: Source | None = None
    if ground.job.host is None:
        place = ground.target.path(copy.place(name))
        origin = sources.open_directory(place, (), "no_backup")
        transfer = Transfer("./", f"{where}/", files_from=files_from)
        origin.enter()
        gauge.begin_source(origin)
    else:
        transfer = Transfer(
            ground.target.argument(copy.place(name)), f"{where}/", files_from=files_from
        )
    prefix = os.fsencode(name)

    def take(batch: Batch) -> None:
        for line in batch.lines():
            if isinstance(line, Item):
                if dry_run:
                    _count(back, prefix, line)
                else:
                    gauge.item(line)
            elif isinstance(line, Meter) and not dry_run:
                gauge.meter(line.transferred)

    try:
        code, words = yield from ground.rsync(transfer, take, dry_run=dry_run)
    finally:
        if origin is not None:
            origin.close()
    outcome = outcomes.judge(code, words)
    if outcome.verdict in ("again", "failed"):
        raise BackupError(outcome.error, outcome.sentence)
    if not dry_run:
        gauge.source_done()
        _note(back, outcome.verdict == "partial", words)


def _open_goal(ground: Ground, name: str, *, make: bool) -> str:
    """Return the directory that is restored into, checked; it is made if need be."""
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
    if not sources.lies_in(real, roots):
        raise BackupError("policy_denied", f"{goal} leads to {real}, outside the allowed roots")
    backup_request.check_place(real)
    if make:
        try:
            os.makedirs(real, exist_ok=True)
        except OSError as e:
            raise BackupError("bad_path", f"{e.filename}: {e.strerror}") from e
    return real


def _list_file(ground: Ground, paths: list[str]) -> str:
    file = ground.folder / "files"
    file.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    return os.fspath(file)


def _count(back: Back, prefix: bytes, item: Item) -> None:
    if item.kind != b"f" or item.is_deletion:
        return
    back.files += 1
    back.bytes += item.size
    if item.is_new:
        back.new += 1
    elif item.is_unchanged:
        back.unchanged += 1
    else:
        back.overwrites += 1
        if len(back.named) < MAX_NAMED:
            back.named.append(planning.shown(prefix, item.name))


def _note(back: Back, is_partial: bool, words: Words) -> None:
    back.is_partial |= is_partial
    room = MAX_NAMED - len(back.failed)
    back.failed.extend(words.errors()[: max(0, room)])


def _keep_failed(ground: Ground, back: Back) -> None:
    (ground.folder / "failed.list").write_text("\n".join(back.failed), encoding="utf-8")


def _found(ground: Ground, copy: Copy, back: Back) -> dict[str, Any]:
    return {
        "snapshot": copy.snapshot,
        "to": ground.spec.to,
        "files": back.files,
        "bytes": back.bytes,
        "new": back.new,
        "overwrites": back.overwrites,
        "overwritten": back.named,
        "unchanged": back.unchanged,
    }
