"""Frames of a mailbox: u32 body length, u8 type, body. No pickle, nothing that can execute.

A frame that breaks a rule raises `FrameError`; whoever reads then drops the peer: a stream cannot
be trusted again after a bad length. Pure: bytes in, frames out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from workers.errors import FrameError

DATA = 1
MESSAGE = 2

MAX_BODY_BYTES = 1 << 20
_HEADER = struct.Struct(">IB")
_DATA_HEADER = struct.Struct(">BQ")
HEADER_BYTES = _HEADER.size
DATA_HEADER_BYTES = _DATA_HEADER.size


def header(kind: int, body_bytes: int) -> bytes:
    """Return the header of a frame whose body has `body_bytes` bytes.

    Raises:
        FrameError: the body is larger than any reader accepts; the caller must split it.
    """
    if body_bytes > MAX_BODY_BYTES:
        raise FrameError(f"frame body of {body_bytes} bytes is over {MAX_BODY_BYTES}")
    return _HEADER.pack(body_bytes, kind)


def data_frame(stream: int, offset: int, data: bytes) -> bytes:
    """Return a whole DATA frame."""
    return b"".join(
        (header(DATA, DATA_HEADER_BYTES + len(data)), _DATA_HEADER.pack(stream, offset), data)
    )


def message_frame(body: bytes) -> bytes:
    """Return a whole MESSAGE frame."""
    return header(MESSAGE, len(body)) + body


def parse_data(body: bytes) -> tuple[int, int, bytes]:
    """Return (stream, offset of the first byte, bytes) of a DATA frame's body."""
    if len(body) < DATA_HEADER_BYTES:
        raise FrameError("data frame is shorter than its own header")
    stream, offset = _DATA_HEADER.unpack_from(body)
    return stream, offset, body[DATA_HEADER_BYTES:]


class FrameDecoder:
    """Cuts a byte stream into frames, however it was split on the way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each complete (type, body).

        Raises:
            FrameError: an unknown type or an impossible length, before any memory is spent on it.
        """
        buffer = self._buffer
        buffer += chunk
        start, end = 0, len(buffer)
        try:
            while end - start >= HEADER_BYTES:
                size, kind = _HEADER.unpack_from(buffer, start)
                if kind not in (DATA, MESSAGE) or size > MAX_BODY_BYTES:
                    raise FrameError(f"bad frame: type {kind}, {size} bytes")
                stop = start + HEADER_BYTES + size
                if stop > end:
                    break
                body = bytes(memoryview(buffer)[start + HEADER_BYTES : stop])
                start = stop
                yield kind, body
        finally:
            del buffer[:start]
