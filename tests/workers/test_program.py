"""The program: which word leads where, at what cost, and what an unknown one is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers import program


def test_own_words_are_read_without_importlib_metadata() -> None:
    code = (
        "import sys; from workers import program; "
        "assert program.own_words(program.COMMANDS)['status'] == 'agent.cli.status:run'; "
        "assert 'importlib.metadata' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_all_words_agree_with_importlib_metadata() -> None:
    from importlib.metadata import entry_points

    installed = {point.name: point.value for point in entry_points(group=program.COMMANDS)}
    assert program.all_words() == installed | program.own_words(program.COMMANDS)


def test_hidden_words_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(program.own_words(program.INTERNAL)) >= {"_worker", "_zygote"}
    assert program.main(["--help"]) == 0
    assert "_worker" not in capsys.readouterr().out


def test_version_names_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("jackline ")


def test_unknown_word_is_a_usage_error_with_a_suggestion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert program.main(["statsu"]) == 2
    assert "`status`" in capsys.readouterr().err


def test_unknown_hidden_word_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["_nothing"]) == 2
    assert "_nothing" in capsys.readouterr().err


def test_no_word_prints_the_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "usage:" in told.err


def test_hub_that_is_not_set_up_names_the_cure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert program.main(["hub", "serve", "--state-dir", str(tmp_path / "nowhere")]) == 78
    assert "jackline hub init" in capsys.readouterr().err


def test_word_gets_what_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(argv: list[str]) -> int:
        seen.append(argv)
        return 3

    monkeypatch.setattr(program, "_load", lambda place: run)
    assert program.main(["status", "--json"]) == 3
    assert seen == [["--json"]]


def test_interrupted_word_ends_as_a_shell_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "_load", lambda place: run)
    assert program.main(["status"]) == 130


def test_reader_that_went_away_leaves_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*program.own_command(), "--help"],
        timeout=60,
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_own_command_starts_the_program_from_a_stranger_s_directory(tmp_path: object) -> None:
    done = subprocess.run(
        [*program.own_command(), "--version"],
        cwd=str(tmp_path),
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("jackline ")


def test_frozen_build_is_its_own_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert program.own_command() == [sys.executable]
