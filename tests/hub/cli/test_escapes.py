"""`~.` and its like: only at the start of a line, whatever the pieces are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.escapes import Command, Escapes


def said(*pieces: str) -> tuple[str, list[Command]]:
    escapes, data, commands = Escapes(), "", []
    for piece in pieces:
        for typed in escapes.take(piece):
            data += typed.data
            if typed.command is not None:
                commands.append(typed.command)
    return data, commands


@pytest.mark.parametrize(
    ("pieces", "data", "commands"),
    [
        (["~."], "", [Command.END]),
        (["ls\r~."], "ls\r", [Command.END]),
        (["ls\r", "~", "."], "ls\r", [Command.END]),
        (["ls ~."], "ls ~.", []),
        (["~~x"], "~x", []),
        (["~x"], "~x", []),
        (["~/bin\r~d"], "~/bin\r", [Command.LEAVE]),
        (["~?~."], "", [Command.HELP, Command.END]),
        (["~\r~."], "~\r", [Command.END]),
    ],
)
def test_a_tilde_at_the_start_of_a_line_is_ours(
    pieces: list[str], data: str, commands: list[Command]
) -> None:
    assert said(*pieces) == (data, commands)


@given(st.lists(st.text(alphabet="a~.d\r ", max_size=6), max_size=8))
def test_where_the_pieces_are_cut_makes_no_difference(pieces: list[str]) -> None:
    assert said(*pieces) == said("".join(pieces))


@given(st.text(alphabet=st.characters(exclude_characters="~", exclude_categories=["Cs"])))
def test_text_without_a_tilde_is_the_shells(text: str) -> None:
    assert said(text) == (text, [])
