"""What a console that attaches is shown: contiguous, bounded, exact by offset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.shell import replay
from hub.shell.replay import Replay


def test_output_is_read_back_from_any_offset() -> None:
    kept = Replay()
    kept.append(0, b"hello ")
    kept.append(6, b"world")
    assert kept.read(0) == b"hello world"
    assert kept.read(4) == b"o world"
    assert kept.read(11) == b""
    assert kept.read(99) == b""


def test_what_is_known_already_is_not_doubled() -> None:
    kept = Replay()
    assert kept.append(0, b"abcdef") == b"abcdef"
    assert kept.append(3, b"defgh") == b"gh"
    assert kept.append(0, b"abc") == b""
    assert kept.read(0) == b"abcdefgh"


def test_a_hole_empties_it() -> None:
    kept = Replay()
    kept.append(0, b"abc")
    kept.append(10, b"xyz")
    assert (kept.kept_from, kept.end) == (10, 13)
    assert kept.read(0) == b"xyz"


def test_only_the_last_bytes_are_kept() -> None:
    kept = Replay(max_bytes=100)
    for offset in range(0, 1 << 20, 1 << 10):
        kept.append(offset, b"x" * 1023 + b"\n")
    assert len(kept.read(0)) == 100
    assert kept.kept_from == kept.end - 100
    assert len(kept._buffer) <= 100 + replay._COMPACT_BYTES


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 80)), max_size=30))
def test_whatever_comes_is_the_streams_own_bytes(pieces: list[tuple[int, int]]) -> None:
    stream = bytes(number * 7 % 256 for number in range(400))
    kept = Replay(max_bytes=64)
    for offset, size in pieces:
        kept.append(offset, stream[offset : offset + size])
        assert kept.read(0) == stream[kept.kept_from : kept.end]
