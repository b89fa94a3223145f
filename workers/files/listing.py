"""List one directory, and nothing outside the allowed roots.

Rules: links are resolved first, then the result is opened part by part without following any, so
that what is listed is what was checked; entries are named by what they are, links never followed,
nothing is opened: a FIFO, a device or an automount point cannot hold it up. Memory is bounded by
`max_entries` and by the length of all names: the first ones by name are kept. Blocks on a dead
mount: never on the loop's thread.

Source: contract 1.2, 1.6 `dir_list_request`; fault cases F "tool file read".
"""

from __future__ import annotations

import heapq
import itertools
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from workers import policy_roots
from workers.files.errors import FilesError, from_os_error
from workers.messages import Entry, Listed

MAX_NAMES_BYTES = 512 << 10


def list_directory(path: str, roots: list[list[str]], max_entries: int) -> Listed:
    """Return the entries of `path` by name.

    Args:
        roots: what `path` must lie in once links are resolved, as `policy_roots.holds` takes it.
        max_entries: at most so many are returned; `truncated` tells that there are more.

    Returns:
        names that are not UTF-8 with U+FFFD in them; a size for regular files alone.

    Raises:
        FilesError: `bad_path`, `not_allowed`, `not_found`, `not_a_directory`,
            `permission_denied` or an errno's name.
    """
    if not os.path.isabs(path) or "\0" in path:
        raise FilesError("bad_path")
    try:
        real = os.path.realpath(path)
        if not policy_roots.holds(roots, real):
            raise FilesError("not_allowed")
        with _opened(real) as directory:
            return _read(directory, max_entries)
    except OSError as e:
        raise from_os_error(e) from e


@contextmanager
def _opened(real: str) -> Iterator[int | str]:
    """Open a directory part by part; a link that has just been put there is no directory."""
    if sys.platform == "win32":
        yield real
        return
    through = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
    last = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDONLY
    parts = [part for part in real.split("/") if part]
    fd = os.open("/", through if parts else last)
    try:
        for number, part in enumerate(parts, 1):
            inner = os.open(part, last if number == len(parts) else through, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _read(directory: int | str, max_entries: int) -> Listed:
    total = 0

    def counted(entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        nonlocal total
        for entry in entries:
            total += 1
            yield entry

    with os.scandir(directory) as entries:
        first = heapq.nsmallest(max_entries, counted(entries), key=lambda entry: entry.name)
        listed = _fitting([_entry(each) for each in first])
        return Listed(entries=listed, truncated=total > len(listed))


def _fitting(entries: list[Entry]) -> list[Entry]:
    """Return the first ones whose names fit: an event holds less than a frame does."""
    ends = itertools.accumulate(len(each.name.encode()) for each in entries)
    return entries[: sum(1 for end in ends if end <= MAX_NAMES_BYTES)]


def _entry(found: os.DirEntry[str]) -> Entry:
    """Describe an entry by what the directory says; only a regular file is looked at."""
    is_dir, size = False, None
    with suppress(OSError):  # gone meanwhile, or not ours to look at
        is_dir = found.is_dir(follow_symlinks=False)
        if found.is_file(follow_symlinks=False):
            status = found.stat(follow_symlinks=False)
            size = status.st_size if stat.S_ISREG(status.st_mode) else None
    name = os.fsencode(found.name).decode("utf-8", "replace")
    return Entry(name=name, is_dir=is_dir, size=size)
