"""Our block in an authorized_keys file: what it holds, and how it changes.

Pure: bytes in, bytes out. Rules: every byte outside our block stays as it is; there is one block
for each GitHub user; a key that stands anywhere else in the file, even behind options, is not
written again, because a second line without the options would undo them. A marker without its
partner is a comment like any other.

Source: contract 1.6; fault cases K (`add-only`, `mirror`).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from workers.keys.parse import PublicKey

Mode = Literal["add-only", "mirror"]


_LINE = re.compile(rb"[^\n]*\n|[^\n]+")  # sshd ends a line at a newline alone


class Change(NamedTuple):
    """The file as it shall be, and how many keys that adds and removes."""

    content: bytes
    added: int
    removed: int


def change(content: bytes, github_user: str, keys: list[PublicKey], mode: Mode) -> Change:
    """Bring the block of `github_user` up to date.

    Args:
        content: the file as it is; empty if there is none.
        keys: what the user has now.
        mode: `add-only` keeps what the block already holds; `mirror` makes it hold just `keys`.

    Returns:
        the new content, the same object if nothing changes.
    """
    lines = _LINE.findall(content)
    begin, end = _marker(b"BEGIN", github_user), _marker(b"END", github_user)
    outside, held, at = _take_out(lines, begin, end)
    elsewhere = _blobs(outside)
    comment = f"jackline:github:{github_user.lower()}"
    wanted = {
        key.base64.encode(): f"{key.algorithm} {key.base64} {comment}\n".encode()
        for key in keys
        if key.base64.encode() not in elsewhere
    }
    before = _blobs(held)
    kept = held if mode == "add-only" else [line for line in held if line in wanted.values()]
    after = [*kept, *(line for blob, line in wanted.items() if blob not in _blobs(kept))]
    if after == held:
        return Change(content, 0, 0)
    if outside[:at] and not outside[at - 1].endswith(b"\n"):
        outside[at - 1] += b"\n"
    block = [begin, *after, end] if after else []
    blobs = _blobs(after)
    return Change(
        b"".join([*outside[:at], *block, *outside[at:]]),
        len(blobs - before),
        len(before - blobs),
    )


def _marker(word: bytes, github_user: str) -> bytes:
    # Logins are case-insensitive; one user has one block.
    user = github_user.lower().encode("ascii")
    return b"# " + word + b" jackline github:" + user + b" (managed)\n"


def _take_out(lines: list[bytes], begin: bytes, end: bytes) -> tuple[list[bytes], list[bytes], int]:
    """Return the lines outside our blocks, those inside, and where the first block stood."""
    outside: list[bytes] = []
    held: list[bytes] = []
    place: int | None = None
    index = 0
    while index < len(lines):
        stop = _end_of_block(lines, index, begin, end)
        if stop is None:
            outside.append(lines[index])
            index += 1
            continue
        if place is None:
            place = len(outside)
        held += lines[index + 1 : stop]
        index = stop + 1
    return outside, held, len(outside) if place is None else place


def _end_of_block(lines: list[bytes], index: int, begin: bytes, end: bytes) -> int | None:
    if lines[index].rstrip() != begin.rstrip():
        return None
    for stop in range(index + 1, len(lines)):
        if lines[stop].rstrip() == end.rstrip():
            return stop
        if lines[stop].startswith(b"# BEGIN jackline "):
            return None
    return None


def _blobs(lines: list[bytes]) -> set[bytes]:
    """Return every word of the lines that are not comments: the keys are among them."""
    return {
        word
        for line in lines
        if not line.lstrip().startswith(b"#")
        for word in line.split()
        if word.startswith(b"AAAA")
    }
