"""A stream's bytes as text: the same text however they were split, every byte accounted for."""

from __future__ import annotations

import base64
import codecs
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.stream_text import ENVELOPE_BYTES, Piece, StreamText, incomplete_tail
from wire.limits import MAX_EVENT_BYTES

# Text, broken text, and what lies between: lone continuation bytes, cut characters, surrogates.
BROKEN = st.sampled_from(
    [b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xff", b"\xc0\xaf"]
)
STREAM = st.lists(
    st.binary(max_size=20) | st.text(max_size=20).map(str.encode) | BROKEN, max_size=12
).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


def run(text: StreamText, parts: list[bytes], limit: int = MAX_EVENT_BYTES) -> list[Piece]:
    pieces = [piece for part in parts for piece in text.pieces(part, limit)]
    return pieces + list(text.pieces(b"", limit, is_last=True))


def encoded_bytes(piece: Piece) -> int:
    return len(msgspec.json.encode(piece.data)) - 2


@given(STREAM, CUTS, st.integers(0, 10_000))
def test_text_is_what_an_incremental_decoder_gives(
    data: bytes, cuts: list[int], offset: int
) -> None:
    text = StreamText(offset)
    pieces = run(text, chunks(data, cuts))
    assert "".join(piece.data for piece in pieces) == data.decode(errors="replace")
    assert all(piece.encoding is None for piece in pieces)
    assert_accounted(pieces, offset, len(data), text)


@given(STREAM, CUTS, st.integers(0, 10_000))
def test_base64_gives_the_very_bytes(data: bytes, cuts: list[int], offset: int) -> None:
    text = StreamText(offset, as_base64=True)
    pieces = run(text, chunks(data, cuts))
    raw = [
        base64.b64decode(piece.data, validate=True) if piece.encoding else piece.data.encode()
        for piece in pieces
    ]
    assert b"".join(raw) == data
    assert [len(part) for part in raw] == [piece.cost for piece in pieces]
    assert_accounted(pieces, offset, len(data), text)


def assert_accounted(pieces: list[Piece], offset: int, size: int, text: StreamText) -> None:
    """Each piece begins where the one before ended; together they are the stream."""
    for piece in pieces:
        assert piece.offset == offset
        offset += piece.cost
        assert piece.cost >= 0 and piece.data
    assert offset == text.offset == text.fed
    assert sum(piece.cost for piece in pieces) == size


@given(STREAM, CUTS)
def test_text_holds_back_three_bytes_at_most(data: bytes, cuts: list[int]) -> None:
    text = StreamText()
    fed = 0
    for part in chunks(data, cuts):
        list(text.pieces(part, MAX_EVENT_BYTES))
        fed += len(part)
        assert text.fed == fed
        assert 0 <= text.fed - text.offset <= 3


@given(st.text(min_size=1))
def test_text_split_anywhere_has_no_replacement_of_its_own(whole: str) -> None:
    """What was text stays text: no character is torn by a split."""
    data = whole.encode()
    text = StreamText(as_base64=True)
    pieces = run(text, [data[at : at + 1] for at in range(len(data))])
    assert "".join(piece.data for piece in pieces) == whole
    assert all(piece.encoding is None for piece in pieces)


@given(STREAM, st.integers(6, 60), st.booleans())
def test_pieces_stay_within_the_limit(data: bytes, room: int, as_base64: bool) -> None:
    text = StreamText(as_base64=as_base64)
    pieces = run(text, [data], ENVELOPE_BYTES + room)
    assert all(encoded_bytes(piece) <= room for piece in pieces)
    assert sum(piece.cost for piece in pieces) == len(data)


@pytest.mark.parametrize("data", [b"\x1b" * 500_000, "é".encode() * 250_000, b"\xff" * 500_000])
def test_large_output_becomes_events_that_fit(data: bytes) -> None:
    for as_base64 in (False, True):
        text = StreamText(as_base64=as_base64)
        pieces = run(text, [data])
        assert len(pieces) > 1
        assert all(encoded_bytes(p) <= MAX_EVENT_BYTES - ENVELOPE_BYTES for p in pieces)
        assert sum(piece.cost for piece in pieces) == len(data)


@pytest.mark.parametrize("limit", [0, 5, ENVELOPE_BYTES - 1, ENVELOPE_BYTES, ENVELOPE_BYTES + 5])
@pytest.mark.parametrize("data", [b"text", b"\xff\xfe"])
def test_limit_that_is_hardly_one_still_loses_nothing(limit: int, data: bytes) -> None:
    """A server may announce a silly `maxPayload`: that is its session's trouble, not a crash."""
    for as_base64 in (False, True):
        pieces = run(StreamText(as_base64=as_base64), [data], limit)
        assert sum(piece.cost for piece in pieces) == len(data)


def test_nothing_fed_gives_no_piece() -> None:
    text = StreamText(5)
    assert run(text, [b"", b""]) == []
    assert text.fed == 5


@given(st.binary(max_size=8))
def test_incomplete_tail_is_held_exactly_where_the_decoder_may_wait(data: bytes) -> None:
    """It holds back at least what Python's decoder holds back, and nothing that is complete."""
    tail = incomplete_tail(data)
    assert data.endswith(tail) and len(tail) <= 3
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    waiting = decoder.getstate()[0]
    assert tail.endswith(waiting)
