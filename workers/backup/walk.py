"""Counting without rsync: the same globs, the same file system, no look at the destination.

Source: docs/reference/backup.rst: a plan without rsync is a native walk, counts only.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import re
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workers.backup import globs, itemize
from workers.backup.globs import ANY, CROSS, SLASH, STAR, OneOf, Rule, Token
from workers.backup.itemize import Item, Line, Skipped
from workers.backup.sources import Source
from workers.backup.steps import Job

if TYPE_CHECKING:
    from workers.backup.ground import Ground
    from workers.backup.planning import Counts

_TURN_S = 0.05
_MAX_STARS = 2
_NEW_FILE = b">f+++++++++"


def count(ground: Ground, counts: Counts) -> Job[None]:
    """Count every source, a slice of 50 ms at a time."""
    for source in ground.sources:
        until = time.monotonic() + _TURN_S
        counts.enter_source()
        for line in lines(source, globs.rules(ground.job.globs, source.name)):
            counts.take_lines(source, [line])
            if time.monotonic() > until:
                yield None
                until = time.monotonic() + _TURN_S


def lines(source: Source, rules: list[Rule]) -> Iterator[Line]:
    """Yield what rsync would say of a source whose copy does not exist yet; files alone."""
    everywhere = _Matcher([rule for rule in rules if not rule.anchored])
    anchored = _Matcher([rule for rule in rules if rule.anchored])
    device = os.fstat(source.fd).st_dev
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        try:
            fd = os.open(folder or b".", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source.fd)
        except OSError:
            continue
        with os.scandir(fd) as entries:
            for entry in entries:
                raw = os.fsencode(entry.name)
                path = folder + raw
                is_dir = entry.is_dir(follow_symlinks=False)
                if everywhere.meets(raw, is_dir) or anchored.meets(path, is_dir):
                    continue
                found = entry.stat(follow_symlinks=False)
                if is_dir and found.st_dev == device:
                    waiting.append(path + b"/")
                elif is_dir:
                    yield Skipped("mount", itemize.escaped_name(path))
                elif stat.S_ISREG(found.st_mode):
                    name = itemize.escaped_name(path)
                    yield Item(_NEW_FILE, found.st_size, b"", b"", b"", name)
                elif not stat.S_ISLNK(found.st_mode):
                    yield Skipped("special", itemize.escaped_name(path))
        os.close(fd)


class _Matcher:
    """Rules as two regular expressions: for directories, and for everything else.

    With many stars a regular expression tries every way to share a name out among them (five: hours
    for a name of 255 bytes); such rules are matched by hand.
    """

    def __init__(self, rules: list[Rule]) -> None:
        self._starry = [rule for rule in rules if _stars(rule) > _MAX_STARS]
        plain = [rule for rule in rules if _stars(rule) <= _MAX_STARS]
        self._any = _joined([rule for rule in plain if not rule.directories_only])
        self._directories = _joined(plain)

    def meets(self, name: bytes, is_dir: bool) -> bool:
        pattern = self._directories if is_dir else self._any
        if pattern is not None and pattern.fullmatch(name) is not None:
            return True
        asked = [rule for rule in self._starry if is_dir or not rule.directories_only]
        return any(globs.matches(rule.pattern, name) for rule in asked)


def _stars(rule: Rule) -> int:
    return sum(token in (STAR, CROSS) for token in rule.pattern)


def _joined(rules: list[Rule]) -> re.Pattern[bytes] | None:
    if not rules:
        return None
    parts = [b"".join(_written(token) for token in rule.pattern) for rule in rules]
    return re.compile(b"|".join(parts), re.DOTALL)


_WILD = {STAR: b"[^/]*", CROSS: b".*", ANY: b"[^/]", SLASH: b"/"}


def _written(token: Token) -> bytes:
    if isinstance(token, str):
        return _WILD[token]
    if isinstance(token, OneOf):
        inside = b"".join(b"\\x%02x-\\x%02x" % each for each in token.ranges)
        return b"(?!/)[" + b"^" * token.negated + inside + b"]"
    return re.escape(bytes([token]))
