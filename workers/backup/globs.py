"""The one glob language, and its translation into a filter file of rsync.

- Without a slash a glob matches a name at any depth below the source.
- With a slash it matches the path that starts at the source's own name: `src/sub/**`.
- `*` and `?` stay within a name, `**` crosses directories, `**/` as a whole component also matches
  none; `[a-z]`, `[!a-z]`, `{a,b}`; a backslash takes the next character literally.
- A slash at the end: directories only. A matched directory is not entered.
- `?` and `[…]` match one byte, as they do in rsync.

Every rule that we write begins with `- ` and holds only a pattern in which each character that
rsync gives a meaning stands in a bracket: nothing that an operator writes is ever read as a rule.
What cannot be said (a control character, an absolute path, `..`, an open brace) is an error.
Source: rsync(1), "FILTER RULES"; cases H.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

import msgspec

from workers.errors import BackupError

MAX_GLOBS = 1_000
MAX_RULES = 10_000
MAX_GLOB_CHARS = 4_096
_MAX_CROSSINGS = 6

STAR, CROSS, ANY, SLASH = "star", "cross", "any", "slash"
_SPECIAL = b"*?[\\"


class OneOf(msgspec.Struct, frozen=True):
    """A bracket: byte ranges, maybe negated."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False

    def holds(self, byte: int) -> bool:
        inside = any(low <= byte <= high for low, high in self.ranges)
        return inside is not self.negated and byte != ord("/")


# A byte stands for itself; SLASH is kept apart from it.
Token = int | str | OneOf
Pattern = tuple[Token, ...]


class Rule(msgspec.Struct, frozen=True):
    """One thing that is left out: `anchored` at the source, or a name anywhere below it."""

    pattern: Pattern
    anchored: bool
    directories_only: bool

    def line(self) -> bytes:
        """Return the rule as rsync reads it."""
        text = b"".join(_written(token) for token in self.pattern)
        return b"- " + b"/" * self.anchored + text + b"/" * self.directories_only


def rules(globs: Sequence[str], source_name: str) -> list[Rule]:
    """Return what `globs` leave out of the source called `source_name`.

    Raises:
        BackupError: `bad_glob`, with the glob and what is wrong with it.
    """
    if len(globs) > MAX_GLOBS:
        raise BackupError("bad_glob", f"at most {MAX_GLOBS} globs, please")
    found: dict[Rule, None] = {}
    for glob in globs:
        for rule in _rules_of(glob, source_name.encode()):
            found[rule] = None
            if len(found) > MAX_RULES:
                raise BackupError("bad_glob", f"the globs mean more than {MAX_RULES} patterns")
    return list(found)


def filter_file(globs: Sequence[str], source_name: str) -> bytes:
    """Return the content of the filter file of one source; raises BackupError as `rules`."""
    return b"".join(rule.line() + b"\n" for rule in rules(globs, source_name))


def _rules_of(glob: str, source_name: bytes) -> Iterator[Rule]:
    _check(glob)
    for text in _unbraced(glob):
        bare = re.sub(r"/+", "/", text)
        directories_only = bare.endswith("/")
        bare = bare.removesuffix("/")
        if bare in ("", ".") or {".", ".."} & set(bare.split("/")):
            raise _bad(glob, "names no file")
        if "/" not in bare:
            name = tuple(STAR if token == CROSS else token for token in _tokens(bare, glob))
            yield Rule(_short(name), False, directories_only)
            continue
        for variant in _crossings(bare, glob):
            for rest in _after(_tokens(variant, glob), source_name + b"/"):
                yield Rule(_short(rest), True, directories_only)


def _check(glob: str) -> None:
    if not glob or len(glob) > MAX_GLOB_CHARS:
        raise _bad(glob[:40], f"must have 1 to {MAX_GLOB_CHARS} characters")
    if re.search(r"[\x00-\x1f\x7f]", glob):
        raise _bad(glob, "holds a control character")
    try:
        glob.encode()
    except UnicodeEncodeError as e:
        raise _bad(glob, "is not UTF-8") from e
    if glob.startswith("/"):
        raise _bad(glob, "is absolute; begin with the source's own name")


def _unbraced(text: str) -> list[str]:
    """Return what `{a,b}` stands for, from the innermost brace outwards; too many are refused."""
    waiting, done = [text], list[str]()
    while waiting:
        if len(waiting) + len(done) > MAX_RULES:
            raise _bad(text, "has too many alternatives")
        one = waiting.pop()
        span = _innermost(one)
        if span is None:
            done.append(one)
            continue
        start, commas, end = span
        ends = [start, *commas, end]
        inner = [one[a + 1 : b] for a, b in itertools.pairwise(ends)]
        waiting.extend(one[:start] + each + one[end + 1 :] for each in inner)
    return done


def _innermost(text: str) -> tuple[int, list[int], int] | None:
    """Return the place of the first closed brace with no other inside, and of its commas."""
    opened: list[tuple[int, list[int]]] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif character == "[" and (end := _bracket_end(text, at)) is not None:
            at = end
        elif character == "{":
            opened.append((at, []))
        elif character == "," and opened:
            opened[-1][1].append(at)
        elif character == "}" and opened:
            start, commas = opened[-1]
            return start, commas, at
        at += 1
    if opened:
        raise _bad(text, "has a { without its }")
    return None


def _bracket_end(text: str, start: int) -> int | None:
    """Return where the bracket that opens at `start` closes; None: it is a plain `[`."""
    at = start + 1
    if at < len(text) and text[at] in "!^":
        at += 1
    first = at
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "]" and at > first:
            return at
        elif text[at] == "/":
            return None
        at += 1
    return None


def _crossings(text: str, glob: str) -> list[str]:
    """Return the variants in which each whole component `**` is there, or matches none."""
    parts = text.split("/")
    crossing = [i for i, part in enumerate(parts[:-1]) if part == "**"]
    if len(crossing) > _MAX_CROSSINGS:
        raise _bad(glob, f"crosses directories more than {_MAX_CROSSINGS} times")
    variants: dict[str, None] = {}
    for mask in range(1 << len(crossing)):
        left_out = {i for bit, i in enumerate(crossing) if mask >> bit & 1}
        variants["/".join(part for i, part in enumerate(parts) if i not in left_out)] = None
    return list(variants)


def _tokens(text: str, glob: str) -> Pattern:
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "*":
            stars = re.compile(r"\*+").match(text, at)
            assert stars is not None
            tokens.append(STAR if stars.end() - at == 1 else CROSS)
            at = stars.end()
            continue
        if character == "[" and (end := _bracket_end(text, at)) is not None:
            tokens.append(_bracket(text[at + 1 : end], glob))
            at = end + 1
            continue
        if character == "\\" and at + 1 < len(text):
            at += 1
            character = text[at]
            tokens.extend([SLASH] if character == "/" else character.encode())
        else:
            tokens.extend({"?": [ANY], "/": [SLASH]}.get(character) or list(character.encode()))
        at += 1
    return tuple(tokens)


def _bracket(inside: str, glob: str) -> OneOf:
    if not inside.isascii():
        raise _bad(glob, "has letters in [] that are more than one byte; use {a,b}")
    if "[:" in inside or "[." in inside or "[=" in inside:
        raise _bad(glob, "names a class in []; write the characters")
    negated = inside[0] in "!^"
    letters = re.findall(r"\\?(.)", inside[negated:])
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < len(letters):
        low = high = ord(letters[at])
        if at + 2 < len(letters) and letters[at + 1] == "-":
            high = ord(letters[at + 2])
            at += 2
        if low > high:
            raise _bad(glob, "has a range in [] that runs backwards")
        ranges.append((low, high))
        at += 1
    return OneOf(tuple(ranges), negated)


def matches(pattern: Pattern, name: bytes) -> bool:
    """Match a whole name, in a time of pattern times name whatever they are."""
    places = _skipped({0}, pattern)
    for byte in name:
        places = _skipped({n for at in places for n in _steps(pattern, at, byte)}, pattern)
        if not places:
            return False
    return len(pattern) in places


def _after(pattern: Pattern, prefix: bytes) -> list[Pattern]:
    """Return what is left to match of `pattern` once `prefix` was: one for each way to match it."""
    places = _skipped({0}, pattern)
    for byte in prefix:
        places = _skipped({n for at in places for n in _steps(pattern, at, byte)}, pattern)
    rests = [pattern[at:] for at in sorted(places)]
    return [rest for rest in rests if rest and rest[0] != SLASH]


def _skipped(places: set[int], pattern: Pattern) -> set[int]:
    """A star may also match nothing."""
    found = set(places)
    waiting = list(places)
    while waiting:
        at = waiting.pop()
        if at < len(pattern) and pattern[at] in (STAR, CROSS) and at + 1 not in found:
            found.add(at + 1)
            waiting.append(at + 1)
    return found


def _steps(pattern: Pattern, at: int, byte: int) -> Iterator[int]:
    if at == len(pattern):
        return
    token, is_slash = pattern[at], byte == ord("/")
    if token == CROSS or (token == STAR and not is_slash):
        yield at
    elif token == STAR:
        return
    elif token == SLASH if is_slash else _meets(token, byte):
        yield at + 1


def _meets(token: Token, byte: int) -> bool:
    return token.holds(byte) if isinstance(token, OneOf) else token in (ANY, byte)


def _short(pattern: Pattern) -> Pattern:
    """Two stars side by side say no more than the stronger one, and may not be read as `***`."""
    short: list[Token] = []
    for token in pattern:
        if short and token in (STAR, CROSS) and short[-1] in (STAR, CROSS):
            short[-1] = CROSS if CROSS in (token, short[-1]) else STAR
        else:
            short.append(token)
    return tuple(short)


_WILD = {STAR: b"*", CROSS: b"**", ANY: b"?", SLASH: b"/"}


def _written(token: Token) -> bytes:
    if isinstance(token, str):
        return _WILD[token]
    if isinstance(token, OneOf):
        inside = b"".join(
            _escaped(low) if low == high else _escaped(low) + b"-" + _escaped(high)
            for low, high in token.ranges
        )
        return b"[" + b"^" * token.negated + inside + b"]"
    byte = bytes([token])
    return b"[" + _escaped(token) + b"]" if byte in _SPECIAL else byte


def _escaped(byte: int) -> bytes:
    """Return a member of a bracket; rsync takes any character after a backslash literally."""
    letter = bytes([byte])
    return letter if letter.isalnum() or byte > 127 else b"\\" + letter


def _bad(glob: str, why: str) -> BackupError:
    return BackupError("bad_glob", f"the glob {glob!r} {why}")
