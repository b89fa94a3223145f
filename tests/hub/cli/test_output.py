"""Tables for people, JSON for programs."""

from __future__ import annotations

import json

import pytest

from hub.cli import output


def test_a_table_in_a_pipe_is_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["NAME", "N"], [["a\x1b[31m", 1], ["bbbbbb", None]])
    assert capsys.readouterr().out == "NAME    N\na\ufffd[31m  1\nbbbbbb  -\n"


def test_a_table_on_a_terminal_is_drawn_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.print_table(["NAME", "N"], [["[bold]a[/bold]", 1]])
    out = capsys.readouterr().out
    assert "[bold]a[/bold]" in out
    assert "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in out


@pytest.mark.parametrize("argv", [["-o", "json"], ["--json"]])
def test_json_can_be_asked_for_in_two_ways(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = output.parser("agents ls", "List agents.")
    output.add_format(parser)
    assert output.wants_json(parser.parse_args(argv))
    assert not output.wants_json(parser.parse_args([]))
    output.print_json({"a": "é"})
    assert json.loads(capsys.readouterr().out) == {"a": "é"}


def test_no_control_character_reaches_the_terminal_as_json_or_as_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "a\x1b]0;b\x07\x9b31m\x7f"
    output.print_json({"name": hostile})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"name": hostile}
    assert printed.rstrip("\n").isprintable()
    assert output.clean_lines(f"x\ty\n{hostile}\n") == "x\ty\na\ufffd]0;b\ufffd\ufffd31m\ufffd\n"
