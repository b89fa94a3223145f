"""Playing a recording makes the terminal send nothing, and still shows what was on the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.answerback import Harmless

ASKING = {
    "title": "\x1b]0;owned\x07",
    "title with ST": "\x1b]2;owned\x1b\\",
    "clipboard": "\x1b]52;c;aGk=\x07",
    "clipboard read": "\x1b]52;c;?\x07",
    "link to a script": "\x1b]8;;javascript:alert(1)\x07",
    "colour query": "\x1b]10;?\x07",
    "palette query": "\x1b]4;1;?\x1b\\",
    "DECRQSS": "\x1bP$qm\x1b\\",
    "XTGETTCAP": "\x1bP+q544e\x1b\\",
    "window title report": "\x1b[21t",
    "cursor position": "\x1b[6n",
    "DEC cursor position": "\x1b[?6n",
    "DA1": "\x1b[c",
    "DA1 with a parameter": "\x1b[0c",
    "DA2": "\x1b[>c",
    "DECID": "\x1bZ",
    "XTVERSION": "\x1b[>q",
    "mode report": "\x1b[?2026$p",
    "kitty keyboard": "\x1b[?u",
    "kitty graphics": "\x1b_Gi=1,a=q;AAAA\x1b\\",
    "mouse": "\x1b[?1000h",
    "mouse among others": "\x1b[?25;1003h",
    "focus": "\x1b[?1004h",
    "bracketed paste": "\x1b[?2004h",
    "ENQ": "\x05",
    "C1 CSI": "\x9b6n",
    "C1 DCS": "\x90$qm\x9c",
    "terminal parameters": "\x1b[x",
    "rectangle checksum": "\x1b[1;1;1;1;1;1*y",
}
SHOWING = {
    "text": "grüße ☃ \U0001f600\r\n\ttab\b\a",
    "colours": "\x1b[1;38;2;255;0;0mred\x1b[0m",
    "cursor": "\x1b[2J\x1b[H\x1b[10;20Hx\x1b[3A\x1b[K",
    "scroll region": "\x1b[1;20r\x1b[2S\x1b[1T",
    "alternate screen": "\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l",
    "cursor style": "\x1b[4 q",
    "line drawing": "\x1b(0qqq\x1b(B",
    "save and restore": "\x1b7\x1b8\x1b[s\x1b[u",
    "link": "\x1b]8;;https://example.com/x\x07here\x1b]8;;\x07",
}


@pytest.mark.parametrize("name", ASKING)
def test_what_asks_the_terminal_is_left_out(name: str) -> None:
    assert Harmless().take(f"a{ASKING[name]}b") == "ab"


@pytest.mark.parametrize("name", SHOWING)
def test_what_only_shows_is_kept(name: str) -> None:
    assert Harmless().take(SHOWING[name]) == SHOWING[name]


@pytest.mark.parametrize("name", [*ASKING, *SHOWING])
def test_a_sequence_that_is_cut_anywhere_is_judged_as_a_whole(name: str) -> None:
    text = f"a{(ASKING | SHOWING)[name]}b"
    whole = Harmless().take(text)
    for cut in range(len(text) + 1):
        filtered = Harmless()
        assert filtered.take(text[:cut]) + filtered.take(text[cut:]) == whole
    one_by_one = Harmless()
    assert "".join(map(one_by_one.take, text)) == whole


def test_a_string_that_never_ends_is_not_held_for_ever() -> None:
    filtered = Harmless()
    for _ in range(40):
        filtered.take("\x1bP" + "x" * 4096)
    assert len(filtered._held) < 200_000
    assert "after" in filtered.take("\x1b\\after")


@given(st.lists(st.sampled_from([*ASKING.values(), *SHOWING.values(), "\x1b", "[", "\x1b["])))
def test_nothing_that_asks_can_be_put_together_from_pieces(pieces: list[str]) -> None:
    filtered = Harmless()
    shown = "".join(map(filtered.take, pieces))
    assert Harmless().take(shown) == shown
    assert not set("\x05\x90\x9b").intersection(shown)
