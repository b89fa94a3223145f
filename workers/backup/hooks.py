"""The machine owner's own commands: before and after a run, and those whose output is backed up.

Rules: argv lists from the machine's configuration only, never from a message; no shell. `before`
is the first thing of a run (it may mount what is copied), and stops the run when it fails; `after`
follows however the run ended, unless its worker was killed, and is a note when it fails. A command
source writes its output to `dumps/<file>` in the plan's folder, which then is a source like any
other, called `dumps`.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import re
from typing import Any

from workers.backup import sources
from workers.backup.ground import Ground
from workers.backup.outcomes import Words
from workers.backup.steps import Job
from workers.errors import BackupError

DUMPS = "dumps"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")


def check(ground: Ground) -> None:
    """Refuse what is no argument list before anything happens; raises BackupError `bad_hook`."""
    for name in ("before", "after"):
        _argv(ground.job.hooks.get(name), f"backup.hooks.{name}")


def before(ground: Ground) -> Job[None]:
    """Run the `before` hook; raises BackupError `hook_failed`."""
    argv = _argv(ground.job.hooks.get("before"), "backup.hooks.before")
    if argv:
        code, _, words = yield from ground.tools.capture(argv)
        if code != 0:
            raise BackupError("hook_failed", f"{argv[0]} ended with {code}: {words.text[-200:]}")


def after(ground: Ground, how: str) -> Job[None]:
    """Run the `after` hook, which is told in JACKLINE_BACKUP how the run went."""
    argv = _argv(ground.job.hooks.get("after"), "backup.hooks.after")
    if not argv:
        return
    ground.tools.env["JACKLINE_BACKUP"] = how
    try:
        code, _, words = yield from ground.tools.capture(argv)
        said = None if code == 0 else f"ended with {code}: {words.text[-200:]}"
    except BackupError as e:
        said = str(e)
    if said is not None:
        ground.notes.append(f"backup.hooks.after: {said}")


def dump(ground: Ground) -> Job[None]:
    """Run every command source and add what they wrote as a source."""
    if not ground.job.commands:
        return
    if DUMPS in ground.names:
        raise BackupError("bad_source", f"a source called {DUMPS} and backup.sources clash")
    folder = ground.folder / DUMPS
    folder.mkdir(mode=0o700, exist_ok=True)
    wanted: set[str] = set()
    for source in ground.job.commands:
        name = str(source.get("file") or source.get("name") or "")
        if _FILE.fullmatch(name) is None or name in wanted:
            raise BackupError("bad_source", f"backup.sources: {name!r} is no file name of its own")
        wanted.add(name)
        argv = _argv(source.get("argv") or source.get("command"), "backup.sources")
        if not argv:
            raise BackupError("bad_source", f"backup.sources: {name} has no argv")
        yield from _write(ground, argv, os.fspath(folder / name))
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
    ground.sources.append(sources.open_directory(os.fspath(folder), (), "bad_source"))


def _write(ground: Ground, argv: list[str], path: str) -> Job[None]:
    fresh, words = path + ".new", Words()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        code: int = yield ground.tools.start(argv, lambda _: None, words.feed, stdout=fd)
    finally:
        os.close(fd)
    words.end()
    if code != 0:
        os.unlink(fresh)
        raise BackupError("hook_failed", f"{argv[0]} ended with {code}: {words.text[-200:]}")
    os.replace(fresh, path)


def _argv(value: Any, key: str) -> list[str]:
    if not value:
        return []
    is_argv = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if not is_argv or not os.path.isabs(value[0]):
        raise BackupError("bad_hook", f"{key} must be an argv list with an absolute program")
    return list(value)
