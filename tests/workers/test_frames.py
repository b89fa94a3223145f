"""The frame codec: however a stream was cut on the way, the same frames come out, or an error."""

from __future__ import annotations

import itertools
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import frames
from workers.errors import FrameError
from workers.frames import DATA, MAX_BODY_BYTES, MESSAGE, FrameDecoder

BODIES = st.lists(st.tuples(st.sampled_from([DATA, MESSAGE]), st.binary(max_size=300)), max_size=12)


def encoded(sent: list[tuple[int, bytes]]) -> bytes:
    return b"".join(frames.header(kind, len(body)) + body for kind, body in sent)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


@given(BODIES, st.lists(st.integers(0, 10_000), max_size=40))
def test_decoder_gives_the_same_frames_for_any_chunking(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    decoder = FrameDecoder()
    got = [frame for chunk in chunks(encoded(sent), cuts) for frame in decoder.feed(chunk)]
    assert got == sent


@given(BODIES, st.binary(min_size=1, max_size=64), st.lists(st.integers(0, 10_000), max_size=10))
def test_decoder_gives_what_was_good_before_what_is_not(
    sent: list[tuple[int, bytes]], tail: bytes, cuts: list[int]
) -> None:
    """Whole frames first; then the error, or silence for what is not complete yet."""
    decoder = FrameDecoder()
    got: list[tuple[int, bytes]] = []
    failed = False
    for chunk in chunks(encoded(sent) + tail, cuts):
        try:
            for frame in decoder.feed(chunk):
                got.append(frame)  # noqa: PERF402 - what came before the error counts
        except FrameError:
            failed = True
            break
    assert got[: len(sent)] == sent
    if len(tail) >= frames.HEADER_BYTES:
        size, kind = struct.unpack_from(">IB", tail)
        assert failed == (kind not in (DATA, MESSAGE) or size > MAX_BODY_BYTES) or len(got) > len(
            sent
        )
    else:
        assert not failed and got == sent


@pytest.mark.parametrize(
    "size, kind",
    [
        (1 << 31, DATA),
        (0x7FFFFFFF, MESSAGE),
        (0xFFFFFFFF, DATA),
        (MAX_BODY_BYTES + 1, MESSAGE),
        (0, 0),
        (3, 3),
        (3, 0x80),
        (3, 255),
    ],
)
def test_decoder_refuses_a_bad_header_before_it_has_the_body(size: int, kind: int) -> None:
    decoder = FrameDecoder()
    tracemalloc.start()
    with pytest.raises(FrameError):
        list(decoder.feed(struct.pack(">IB", size, kind)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("body", [b"", b"x", b"x" * MAX_BODY_BYTES])
def test_decoder_takes_bodies_of_every_allowed_size(body: bytes) -> None:
    assert list(FrameDecoder().feed(frames.message_frame(body))) == [(MESSAGE, body)]


def test_header_refuses_a_body_that_no_reader_takes() -> None:
    with pytest.raises(FrameError):
        frames.header(DATA, MAX_BODY_BYTES + 1)
    with pytest.raises(FrameError):
        frames.message_frame(b"x" * (MAX_BODY_BYTES + 1))
    with pytest.raises(FrameError):
        frames.data_frame(0, 0, b"x" * MAX_BODY_BYTES)


@given(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=100))
def test_data_frame_comes_back_as_it_was(stream: int, offset: int, data: bytes) -> None:
    ((kind, body),) = FrameDecoder().feed(frames.data_frame(stream, offset, data))
    assert kind == DATA
    assert frames.parse_data(body) == (stream, offset, data)


@given(st.binary(max_size=frames.DATA_HEADER_BYTES - 1))
def test_data_frame_shorter_than_its_header_is_an_error(body: bytes) -> None:
    with pytest.raises(FrameError):
        frames.parse_data(body)


def test_decoder_that_is_left_early_goes_on_with_the_next_frame() -> None:
    """Whoever stops taking frames in the middle of a chunk has taken those it was given."""
    decoder = FrameDecoder()
    for frame in decoder.feed(encoded([(DATA, b"one"), (MESSAGE, b"two")])):
        assert frame == (DATA, b"one")
        break
    assert list(decoder.feed(b"")) == [(MESSAGE, b"two")]


def test_decoder_in_one_byte_steps_takes_time_in_proportion() -> None:
    """A byte at a time is the worst a peer can do; it must not cost the square of the size."""
    decoder = FrameDecoder()
    stream = encoded([(DATA, b"x" * 200_000)])
    got = [frame for at in range(len(stream)) for frame in decoder.feed(stream[at : at + 1])]
    assert got == [(DATA, b"x" * 200_000)]
