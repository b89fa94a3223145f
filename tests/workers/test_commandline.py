"""The splitter and the cron form: contract 1.4, and the ReDoS row of the fault list."""

from __future__ import annotations

import base64
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import commandline
from workers.commandline import MAX_BYTES, recognise_crontab, split
from workers.errors import CommandLineError

CRONTAB = "# é\n*/5 * * * * /usr/bin/true\n".encode()
B64 = base64.b64encode(CRONTAB).decode()


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("ls -l /tmp", ["ls", "-l", "/tmp"]),
        ("  ls\t-l\r ", ["ls", "-l"]),
        ("grep 'a|b' f", ["grep", "a|b", "f"]),
        ('echo "$HOME `id` $(id); > x"', ["echo", "$HOME `id` $(id); > x"]),
        ("echo 'a'\"b\"c\\ d", ["echo", "abc d"]),
        ("echo ''", ["echo", ""]),
        ("a '' \"\"", ["a", "", ""]),
        ('echo "a\\"b\\\\c\\d"', ["echo", 'a"b\\c\\d']),
        ("echo \\; \\| \\$HOME", ["echo", ";", "|", "$HOME"]),
        ("echo 'two\nlines'", ["echo", "two\nlines"]),
        (
            "ls *.py ~ {a,b} # not a comment",
            ["ls", "*.py", "~", "{a,b}", "#", *["not", "a", "comment"]],
        ),
        ("A=1 ls", ["A=1", "ls"]),
        ("ls a\u00a0b\u2028c", ["ls", "a\u00a0b\u2028c"]),
    ],
)
def test_split_follows_posix_and_keeps_quoted_metacharacters_as_data(command, argv):
    assert split(command) == argv


@pytest.mark.parametrize("character", [";", "|", "&", "<", ">", "(", ")", "$", "`", "\n"])
def test_split_refuses_every_unquoted_metacharacter(character):
    for command in (f"ls{character}id", f"ls {character} id", f"'a'{character}", f"{character}ls"):
        with pytest.raises(CommandLineError, match="unquoted"):
            split(command)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "empty"),
        (" \t\r ", "empty"),
        ("ls 'a", "never closed"),
        ('ls "a\\"', "never closed"),
        ("ls \\", "backslash"),
        ("ls \\\nid", "backslash"),
        ("ls a\0b", "NUL"),
        ("ls '\0'", "NUL"),
        ("ls \ud800", "surrogate"),
        ("ls " + "a" * MAX_BYTES, "longer"),
        ("ls " + "é" * (MAX_BYTES // 2), "longer"),
        ("ls " + "a" * 1_000_000, "longer"),
    ],
)
def test_split_refuses_what_cannot_be_run(command, reason):
    with pytest.raises(CommandLineError, match=reason):
        split(command)


def test_split_takes_the_longest_command():
    assert len(split("a " * (MAX_BYTES // 2))) == MAX_BYTES // 2
    assert split("a" * MAX_BYTES) == ["a" * MAX_BYTES]


def answer(command: str) -> list[str] | str:
    try:
        return split(command)
    except CommandLineError as e:
        return str(e)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
hostile = st.text(st.sampled_from("ab '\"\\;|&<>()$`\n\r\t*~é"), max_size=30)


@given(st.lists(texts, min_size=1, max_size=8))
def test_split_gives_back_what_shlex_quoted(argv):
    assert split(shlex.join(argv)) == argv


@given(hostile)
def test_split_refuses_or_agrees_with_shlex(command):
    try:
        argv = split(command)
    except CommandLineError:
        return
    assert argv == shlex.split(command)


@given(hostile)
def test_split_never_yields_an_argument_that_a_shell_would_act_upon(command):
    """Without its quotes, an accepted command holds no metacharacter."""
    try:
        split(command)
    except CommandLineError:
        return
    bare = re.sub(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.""", "", command, flags=re.DOTALL)
    assert not set(bare) & set(";|&<>()$`\n'\"\\")


@pytest.mark.parametrize("payload", [B64, f"'{B64}'", f'"{B64}"'])
@pytest.mark.parametrize("decode", ["-d", "-D", "--decode"])
@pytest.mark.parametrize("printer", ["echo", "printf %s", "printf '%s'", 'printf "%s"'])
def test_crontab_form_is_recognised_in_all_its_variants(printer, payload, decode):
    assert recognise_crontab(f"{printer} {payload} | base64 {decode} | crontab -") == CRONTAB
    assert recognise_crontab(f" {printer}  {payload}|base64  {decode}|crontab  - ") == CRONTAB


@pytest.mark.parametrize(
    "command",
    [
        "crontab -l",
        "crontab -",
        f"echo {B64} | base64 -d | crontab -; id",
        f"echo {B64} | base64 -d | crontab -\n",
        f"echo {B64} | base64 -d | crontab - && id",
        f"echo {B64} | base64 -d | crontab -u root -",
        f"echo {B64} | base64 -d | sh",
        f"echo {B64} | base64 -d | crontab -r",
        f"echo {B64}\n| base64 -d | crontab -",
        f"echo '{B64}\" | base64 -d | crontab -",
        f"echo '{B64} | base64 -d | crontab -",
        f"echo $({B64}) | base64 -d | crontab -",
        f"echo -n {B64} | base64 -d | crontab -",
        f"id; echo {B64} | base64 -d | crontab -",
        f"echo{B64} | base64 -d | crontab -",
        "echo | base64 -d | crontab -",
        f"printf {B64} | base64 -d | crontab -",
    ],
)
def test_crontab_form_is_recognised_as_a_whole_or_not_at_all(command):
    assert recognise_crontab(command) is None


@pytest.mark.parametrize(
    "text", ["QUJ", "Q===", "QU=JD", "QU_D", "====", "QQ==QQ==", "%%%", "QÜ=="]
)
def test_crontab_form_refuses_what_is_no_base64(text):
    with pytest.raises(CommandLineError, match="base64"):
        recognise_crontab(f"echo {text} | base64 -d | crontab -")


def test_crontab_form_refuses_a_nul():
    with pytest.raises(CommandLineError, match="NUL"):
        recognise_crontab("echo QQBC | base64 -d | crontab -")


def test_crontab_form_may_empty_the_crontab():
    assert recognise_crontab("echo '' | base64 -d | crontab -") == b""


@given(texts.map(str.encode))
def test_crontab_form_carries_any_text(crontab):
    text = base64.b64encode(crontab).decode()
    assert recognise_crontab(f"echo '{text}' | base64 --decode | crontab -") == crontab


@pytest.mark.parametrize(
    "command",
    [
        "echo" + " " * 50_000,
        "echo " + "A" * 50_000 + " " * 50_000,
        " " * 50_000 + "printf" + " " * 50_000,
        "echo A" + "|base64 -d" * 5_000,
        "echo '" + "=" * 50_000,
        '"' + '\\"' * 60_000,
        "'" * 50_001,
        "\\" * 50_001,
        "a''" * 30_000 + "'",
    ],
)
def test_hostile_commands_are_answered(command):
    """Each of them takes minutes where a pattern can be matched in two ways."""
    assert recognise_crontab(command) is None
    assert answer(command)


def test_limits_are_the_longest_argument_of_the_kernel():
    assert commandline.MAX_BYTES == 32 * 4096
