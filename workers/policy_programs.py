"""Which program a name means, and which entries of the allow list cover a command.

Rules: a bare name is looked up in `admin.path`, never in a working directory; a name with a slash
must be absolute; nothing that a message names is looked up on disk unless the owner's own lists
name its directory, letter by letter. Two names mean one program when they have the same last part
and their directories are the same one (`/bin` and `/usr/bin` often are), and then what runs is the
one that the owner listed. The program itself is never resolved further: `busybox` has many names.
Source: contract 1.4 `admin.allowedCommands`; cases B, last row.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

ANY = "*"
DEFAULT_PATH = (
    os.path.expandvars(r"%SystemRoot%\System32;%SystemRoot%")
    if sys.platform == "win32"
    else "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
# No .bat or .cmd: cmd.exe would split their arguments by rules of its own.
_SUFFIXES = ("", ".exe", ".com") if sys.platform == "win32" else ("",)


@dataclass(frozen=True)
class Found:
    """Where a bare name leads; `runs` is False where only a file that may not be run was found."""

    path: str
    runs: bool = True


@dataclass(frozen=True)
class Entry:
    """One entry of `admin.allowedCommands`: its place in the list and its arguments."""

    index: int
    argv: tuple[str, ...]

    @property
    def is_any(self) -> bool:
        return self.argv == (ANY,)

    def covers(self, argv: Sequence[str]) -> bool:
        """Tell whether `argv` begins with the entry's arguments, the program left aside."""
        return tuple(argv[1 : len(self.argv)]) == self.argv[1:]


@dataclass(frozen=True)
class Match:
    """An entry that covers a command, and the program to run (None: not installed)."""

    entry: Entry
    program: Found | None


class Programs:
    """`admin.path` and the directories that the allow list names.

    Args:
        path: directories in order, as in PATH, all absolute.
        listed: the absolute programs of the allow list.
    """

    def __init__(self, path: str, listed: Iterable[str] = ()) -> None:
        self.dirs = tuple(each for each in path.split(os.pathsep) if each)
        known = {*self.dirs, *(os.path.dirname(each) for each in listed)}
        # Once, at the start: these are the owner's own directories.
        self._real = {each: os.path.realpath(each) for each in known}

    def find(self, name: str) -> Found | None:
        """Look the bare `name` up, as a shell does: the first that may be run."""
        blocked: Found | None = None
        for path in (os.path.join(each, name + end) for each in self.dirs for end in _SUFFIXES):
            if not os.path.isfile(path):
                continue
            if os.access(path, os.X_OK):
                return Found(path)
            blocked = blocked or Found(path, runs=False)
        return blocked

    def same(self, one: str, other: str) -> bool:
        """Tell whether two absolute names mean one program; a pure comparison of text."""
        return self._key(one) == self._key(other)

    def _key(self, path: str) -> tuple[str, str]:
        folder, name = os.path.split(path)
        return self._real.get(folder, folder), os.path.normcase(name)


def is_bare(name: str) -> bool:
    """Tell whether `name` has no directory part, and so is looked up."""
    return os.path.basename(name) == name


class AllowList:
    """The entries of one side, ready to be asked."""

    def __init__(self, entries: Sequence[Entry], programs: Programs) -> None:
        self.entries = entries
        self._programs = programs

    def match(self, argv: Sequence[str]) -> Match | None:
        """Return the first entry that covers `argv`; None: the command is not allowed."""
        for entry in self._covering(argv):
            if entry.is_any:
                return Match(entry, self._program(argv[0]))
            program = self._same_program(entry.argv[0], argv[0])
            if program is not None:
                return Match(entry, program)
            if entry.argv[0] == argv[0]:
                return Match(entry, None)
        return None

    def _covering(self, argv: Sequence[str]) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.is_any or entry.covers(argv))

    def _program(self, name: str) -> Found | None:
        """An absolute name is not looked up here: whoever runs it finds out."""
        return self._programs.find(name) if is_bare(name) else Found(name)

    def _same_program(self, listed: str, asked: str) -> Found | None:
        """Return the listed program if the asked name means it and it can be found."""
        names = (os.path.normcase(os.path.basename(each)) for each in (listed, asked))
        if len(set(names)) > 1:
            return None
        meant, wanted = self._program(listed), self._program(asked)
        if meant is None or wanted is None or not self._programs.same(meant.path, wanted.path):
            return None
        return meant
