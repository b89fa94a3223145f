"""The Windows splitter: contract 1.4, with the rules of Windows' own programs as the measure."""

from __future__ import annotations

import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.commandline import MAX_BYTES
from workers.commandline_windows import split
from workers.errors import CommandLineError


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        # Microsoft's own examples
        ('"a b c" d e', ["a b c", "d", "e"]),
        (r'"ab\"c" "\\" d', ['ab"c', "\\", "d"]),
        (r'a\\\b d"e f"g h', [r"a\\\b", "de fg", "h"]),
        (r"a\\\"b c d", [r"a\"b", "c", "d"]),
        (r'a\\\\"b c" d e', [r"a\\b c", "d", "e"]),
        ('a"b"" c d"', ['ab" c d']),
        # ours
        (r"C:\Windows\System32\whoami.exe /all", [r"C:\Windows\System32\whoami.exe", "/all"]),
        (r'"C:\Program Files (x86)\a.exe" -x', [r"C:\Program Files (x86)\a.exe", "-x"]),
        ('findstr "a|b" f', ["findstr", "a|b", "f"]),
        ('echo "$(x) `y` ; > z"', ["echo", "$(x) `y` ; > z"]),
        ("  dir\t/w\r ", ["dir", "/w"]),
        ("echo 'a b'", ["echo", "'a", "b'"]),
        ("echo %PATH% ^x", ["echo", "%PATH%", "^x"]),
        ('a "" ""', ["a", "", ""]),
        (r'dir "C:\x y\\"', ["dir", "C:\\x y\\"]),
        ('echo "two\nlines"', ["echo", "two\nlines"]),
        ("dir \\", ["dir", "\\"]),
    ],
)
def test_split_follows_windows_rules(command, argv):
    assert split(command) == argv


@pytest.mark.parametrize("character", [";", "|", "&", "<", ">", "(", ")", "$", "`", "\n"])
def test_split_refuses_every_unquoted_metacharacter(character):
    for command in (
        f"dir{character}id",
        f"dir {character} id",
        f'"a"{character}',
        f"a\\{character}",
    ):
        with pytest.raises(CommandLineError, match="unquoted"):
            split(command)
    assert split(f'dir "{character}"') == ["dir", character]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "empty"),
        (" \t\r ", "empty"),
        ('""', "empty"),
        ('dir "a', "character 5 is never closed"),
        (r'dir "a\"', "never closed"),
        ("dir \0", "NUL"),
        ("dir \ud800", "surrogate"),
        ("x" * (MAX_BYTES + 1), "longer"),
    ],
)
def test_split_refuses_what_is_no_command(command, reason):
    with pytest.raises(CommandLineError, match=reason):
        split(command)


@given(st.lists(st.text(alphabet="ab \\\"\t'%^é-/:", min_size=1), min_size=1))
def test_split_undoes_the_quoting_of_argument_lists(argv):
    assert split(subprocess.list2cmdline(argv)) == argv


@given(st.text(max_size=300))
def test_split_returns_words_or_its_own_error(command):
    try:
        words = split(command)
    except CommandLineError:
        return
    assert words and all(isinstance(word, str) for word in words)


@pytest.mark.parametrize("piece", ['"', '\\"', '""', "\\", 'a" ', '\\\\" '])
def test_split_is_linear(piece):
    command = (piece * MAX_BYTES)[:MAX_BYTES]
    started = time.process_time()
    try:
        split(command)
    except CommandLineError:
        pass
    assert time.process_time() - started < 5.0
