"""The glob language against a matcher written another way, and against rsync itself."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.facilities import require
from workers.backup import globs
from workers.errors import BackupError

NAMES = [
    "a",
    "b",
    "ab",
    "a b",
    "c*",
    "[x]",
    "!",
    "+ k",
    "- k",
    "a\\b",
    "#h",
    ".x ",
    "é",
    "x\n",
    "{q}",
]
PIECES = [
    "a",
    "b",
    "ab",
    "*",
    "?",
    "**",
    "/",
    "[ab]",
    "[!a]",
    "{a,b}",
    "{a,b/c}",
    "\\*",
    "\\",
    "!",
    "+ ",
    "- ",
    ". ",
    ": ",
    " ",
    "#",
    ";",
    "***",
    "é",
    "src",
    "[x-z]",
    "[]x]",
    "[",
    "src/",
    "/**",
    "**/",
    "]",
    "-",
]


def expanded(glob: str) -> list[str]:
    """Expand the braces, from the left and by recursion."""
    depth, start, at = 0, None, 0
    commas: list[int] = []
    while at < len(glob):
        c = glob[at]
        if c == "\\":
            at += 2
            continue
        if c == "[":
            m = re.compile(r"\[[!^]?(?:\\.|[^\\/])(?:\\.|[^\]\\/])*\]").match(glob, at)
            if m:
                at = m.end()
                continue
        if c == "{":
            depth += 1
            if depth == 1:
                start, commas = at, []
        elif c == "," and depth == 1:
            commas.append(at)
        elif c == "}" and depth:
            depth -= 1
            if depth == 0:
                assert start is not None
                cuts = [start, *commas, at]
                parts = [glob[i + 1 : j] for i, j in itertools.pairwise(cuts)]
                return [
                    whole
                    for part in parts
                    for whole in expanded(glob[:start] + part + glob[at + 1 :])
                ]
        at += 1
    return [glob]


def regex(glob: str) -> re.Pattern[bytes]:
    out, at = b"", 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            out += b"(?:.*/)?"
            at += 3
        elif m := re.compile(r"\*+").match(glob, at):
            out += b"[^/]*" if m.end() - at == 1 else b".*"
            if m.end() - at > 1 and m.end() == len(glob) and (at > 0 and glob[at - 1] == "/"):
                out = out[:-2] + b".+"
            at = m.end()
        elif m := re.compile(r"\[([!^]?)((?:\\.|[^\\/])(?:\\.|[^\]\\/])*)\]").match(glob, at):
            inside = re.sub(
                r"\\?(.)", lambda c: c[1] if c[1].isalnum() or c[1] == "-" else "\\" + c[1], m[2]
            ).encode()
            out += b"(?!/)[" + b"^" * bool(m[1]) + inside + b"]"
            at = m.end()
        elif glob[at] == "?":
            out, at = out + b"[^/]", at + 1
        else:
            if glob[at] == "\\" and at + 1 < len(glob):
                at += 1
            out, at = out + re.escape(glob[at].encode()), at + 1
    return re.compile(out, re.DOTALL)


def is_left_out(path: str, is_dir: bool, glob_list: list[str]) -> bool:
    """`path` begins with the source's own name."""
    for glob in (one for each in glob_list for one in expanded(each)):
        plain = re.sub("/+", "/", glob)
        if plain.endswith("/") and not is_dir:
            continue
        plain = plain.removesuffix("/")
        subject = os.fsencode(path if "/" in plain else path.rpartition("/")[2])
        if regex(plain if "/" in plain else re.sub(r"\*+", "*", plain)).fullmatch(subject):
            return True
    return False


def selected(tree: dict[str, bool], glob_list: list[str]) -> set[str]:
    """Return what is left of a tree; a directory that is left out takes all below it along."""
    out = {path for path, is_dir in tree.items() if is_left_out(f"src/{path}", is_dir, glob_list)}
    return {
        path
        for path in tree
        if not any(path == gone or path.startswith(gone + "/") for gone in out)
    }


def by_rsync(source: Path, rules: Path) -> set[str]:
    done = subprocess.run(
        [
            "rsync",
            "-an",
            "-8",
            "--no-D",
            f"--filter=merge {rules}",
            "--out-format=%n",
            "./",
            "/nowhere/x/",
        ],
        cwd=source,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("utf-8").splitlines()
    names = [re.sub(r"\\#(\d{3})", lambda m: chr(int(m[1], 8)), line) for line in lines]
    return {name.removesuffix("/") for name in names if name != "./"} - {
        "created directory /nowhere/x"
    }


def refusal(glob_list: list[str]) -> str | None:
    try:
        globs.filter_file(glob_list, "src")
    except BackupError as e:
        return e.reason
    return None


trees = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join),
    min_size=1,
    max_size=12,
)
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)


@given(paths=trees, glob_list=st.lists(texts, min_size=1, max_size=4))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rsync_selects_what_the_independent_matcher_selects(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], glob_list: list[str]
) -> None:
    require("rsync")
    usable = []
    for glob in glob_list:
        if refusal([glob]) is None:
            usable.append(glob)
    place = tmp_path_factory.mktemp("tree")
    source = place / "src"
    for path in paths:
        (source / path).mkdir(parents=True, exist_ok=True)
    for path in list(paths):
        file = source / path / "f"
        if not file.exists():
            file.touch()
    tree = {str(p.relative_to(source)): p.is_dir() for p in source.rglob("*")}
    rules = place / "rules"
    rules.write_bytes(globs.filter_file(usable, "src"))
    assert by_rsync(source, rules) == selected(tree, usable), (usable, rules.read_bytes())


@given(st.lists(st.text(max_size=12) | texts, max_size=5))
def test_every_line_is_an_exclusion_whatever_is_written(glob_list: list[str]) -> None:
    reason = refusal(glob_list)
    assert reason in (None, "bad_glob")
    if reason is not None:
        return
    content = globs.filter_file(glob_list, "src")
    assert content == b"" or content.endswith(b"\n")
    for line in content.split(b"\n")[:-1]:
        assert re.fullmatch(rb"- [^\x00-\x1f]+", line), line


@pytest.mark.parametrize(
    ("glob", "lines"),
    [
        ("*.tmp", [b"- *.tmp"]),
        ("src/sub/**", [b"- /sub/**"]),
        ("other/sub", []),
        ("*/x", [b"- /x"]),
        ("**/x", [b"- /**/x", b"- /x"]),
        ("src/**/x", [b"- /**/x", b"- /x"]),
        ("!", [b"- !"]),
        ("+ *.key", [b"- + *.key"]),
        (". ", [b"- . "]),
        ("***", [b"- *"]),
        ("[", [b"- [\\[]"]),
        ("a\\*b", [b"- a[\\*]b"]),
        ("cache/", [b"- cache/"]),
        ("{a,b{c,d}}", [b"- a", b"- bc", b"- bd"]),
    ],
)
def test_glob_becomes_these_rules(glob: str, lines: list[bytes]) -> None:
    assert sorted(rule.line() for rule in globs.rules([glob], "src")) == sorted(lines)


@pytest.mark.parametrize(
    "glob",
    ["", "/", "/abs", "a/../b", "a\nb", "a\x00", "{a", "{a,b", "[z-a]", "[é]", "./x", "\udcff"],
)
def test_glob_that_cannot_be_said_is_refused(glob: str) -> None:
    with pytest.raises(BackupError) as caught:
        globs.rules([glob], "src")
    assert caught.value.reason == "bad_glob"


def test_too_many_globs_are_refused() -> None:
    for flood in (["x"] * 10_000, ["{a,b}" * 20], ["**/" * 20 + "x"]):
        with pytest.raises(BackupError):
            globs.rules(flood, "src")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "*", "?", "**", "[ab]", "[!a]"]), min_size=1, max_size=8),
    st.lists(st.sampled_from(["a", "b", "/"]), max_size=10),
)
def test_glob_matched_by_hand_is_matched_as_a_regular_expression(
    pieces: list[str], letters: list[str]
) -> None:
    """A glob with many stars is matched by hand; it must mean the same."""
    from workers.backup.walk import _joined

    name = "".join(letters).encode()
    for rule in globs.rules(["src/x/" + "".join(pieces)], "src"):
        pattern = rule.pattern[rule.pattern.index(globs.SLASH) + 1 :]
        expected = _joined([globs.Rule(pattern, rule.anchored, rule.directories_only)])
        assert expected is not None
        assert globs.matches(pattern, name) is (expected.fullmatch(name) is not None)
