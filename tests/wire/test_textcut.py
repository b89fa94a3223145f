"""Cutting by encoded size: complete, in order, never inside a character or an escape."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import FUZZ
from wire.textcut import encoded_bytes, head, split_text, tail

# Every length of encoding, and runs of backslashes that look like escapes and are none.
TEXT = st.text(st.sampled_from('aé€😀\\"\n\x00\x1bu0'), max_size=60)


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("a", 1), ("é", 2), ("€", 3), ("😀", 4), ("\x1b", 6), ("\n", 2), ('"', 2)],
)
def test_encoded_bytes_counts_what_json_takes(text: str, size: int) -> None:
    assert encoded_bytes(text) == size


@FUZZ
@given(text=TEXT, limit=st.integers(-3, 80))
def test_head_is_the_longest_beginning_that_fits(text: str, limit: int) -> None:
    kept = head(text, limit)
    assert text.startswith(kept)
    assert encoded_bytes(kept) <= max(0, limit)
    assert kept == text or encoded_bytes(text[: len(kept) + 1]) > limit


@FUZZ
@given(text=TEXT, limit=st.integers(-3, 80))
def test_tail_is_the_longest_end_that_fits(text: str, limit: int) -> None:
    kept = tail(text, limit)
    assert text.endswith(kept)
    assert encoded_bytes(kept) <= max(0, limit)
    assert kept == text or encoded_bytes(text[len(text) - len(kept) - 1 :]) > limit


@FUZZ
@given(text=TEXT, limit=st.integers(6, 40))
def test_split_text_gives_everything_in_pieces_that_fit(text: str, limit: int) -> None:
    pieces = list(split_text(text, limit))
    assert "".join(pieces) == text
    assert all(0 < encoded_bytes(piece) <= limit for piece in pieces)
    assert all(
        encoded_bytes(piece) + encoded_bytes(after[0]) > limit for piece, after in pairwise(pieces)
    )


@pytest.mark.parametrize("unit", ["a", "é", "\x1b", "\\", "\\\x1b", "😀"])
def test_split_text_takes_large_text(unit: str) -> None:
    text = unit * 200_000
    pieces = list(split_text(text, 32_000))
    assert "".join(pieces) == text
    assert all(
        len(json.dumps(piece, ensure_ascii=False).encode()) - 2 <= 32_000 for piece in pieces
    )


def test_split_text_refuses_a_limit_that_one_character_may_not_fit() -> None:
    with pytest.raises(ValueError):
        list(split_text("a", 5))
