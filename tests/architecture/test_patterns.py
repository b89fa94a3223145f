"""No regular expression of the endpoint takes long, whatever it is fed: 50 KB cost 50 ms at most.

Every pattern that a module compiles is found by itself; it is fed as it is used. Fault cases D
"ReDoS set on every regex".
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.facilities import ROOT

SIZE = 50_000
# Processor time, ten times the figure.
DEADLINE_S = 0.5
USES = {"match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
# Repeated up to SIZE, and ended in the ways that make a matcher think again.
SEEDS = (
    *("a", "0", " ", "'", "\\", "/", "-", ".", "*", "a ", "aA", "''", "'\"", '"\\"', "a'b'"),
    *("0.", "\\#012", "://a:", "token=", "ssh-rsa AAAA ", "xattr acl ", '"session":"'),
    *("echo 'QUJD' | ", "skipping non-regular file ", "123 45% ", "Expected `int`, got `"),
)
ENDS = ("", "\0")


def modules() -> Iterator[Path]:
    for house in ("wire", "workers", "agent"):
        yield from sorted((ROOT / house).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def uses_of(name: str) -> set[str]:
    """Return how a pattern of that name is used, anywhere."""
    wanted = re.compile(rf"\b{re.escape(name)}\.({'|'.join(USES)})\b")
    return {use for path in modules() for use in wanted.findall(path.read_text("utf-8"))}


def inline(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (use, pattern) of each `re.<use>(<constant>, …)`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in USES
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.func.attr, re.compile(node.args[0].value)


def patterns() -> Iterator[Any]:
    for path in modules():
        text = path.read_text("utf-8")
        if "import re\n" not in text or path.stem.endswith("_windows"):
            continue
        where = name_of(path)
        for number, (use, pattern) in enumerate(inline(path)):
            yield pytest.param(pattern, {use}, id=f"{where}:{use}{number}")
        for name, value in vars(importlib.import_module(where)).items():
            if isinstance(value, re.Pattern):
                yield pytest.param(value, uses_of(name) or {"fullmatch"}, id=f"{where}.{name}")


PATTERNS = list(patterns())


def test_patterns_are_found() -> None:
    assert len(PATTERNS) > 30


@pytest.mark.parametrize("pattern, uses", PATTERNS)
def test_pattern_takes_little_time_whatever_it_is_fed(
    pattern: re.Pattern[Any], uses: set[str]
) -> None:
    slow = []
    for seed in SEEDS:
        for end in ENDS:
            text: Any = (seed * (SIZE // len(seed) + 1))[:SIZE] + end
            if isinstance(pattern.pattern, bytes):
                text = text.encode()
            for use in uses:
                begun = time.thread_time()
                _feed(pattern, use, text)
                spent_s = time.thread_time() - begun
                if spent_s > DEADLINE_S:
                    slow.append((seed, end, use, round(spent_s, 2)))
            if slow:
                break
    assert slow == []


def test_glob_takes_little_time_however_many_stars_it_has() -> None:
    """A glob becomes a pattern, too; a name has 255 bytes, a path 4,096."""
    from workers.backup import globs
    from workers.backup.walk import _Matcher

    for glob, name in (
        ("*a" * 100 + "*b", b"a" * 255),
        ("*a" * 2 + "b", b"a" * 255),
        ("src/" + "**a*a" * 6 + "b", b"a/" * 2_048),
        ("src/**a**b", b"a/" * 2_048),
        ("?" * 200 + "*" * 200, b"a" * 255),
    ):
        matcher = _Matcher(globs.rules([glob], "src"))
        begun = time.thread_time()
        matcher.meets(name, is_dir=False)
        assert time.thread_time() - begun < DEADLINE_S, glob


def _feed(pattern: re.Pattern[Any], use: str, text: Any) -> None:
    if use == "sub":
        pattern.sub(lambda found: found[0], text)
    elif use == "finditer":
        for _ in pattern.finditer(text):
            pass
    else:
        getattr(pattern, use)(text)
