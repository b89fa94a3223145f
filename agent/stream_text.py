"""From a stream's bytes to text that events can carry. Pure.

Text is decoded incrementally, so that a character split between two reads is held back; invalid
bytes become U+FFFD for a peer without `base64`, and are sent as base64 to one with it. Offsets are
those of the raw stream. Source: contract 1.3, 1.7.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Literal, NamedTuple

from wire.shorten import split_text

# What an event measures besides its data: names, ids, offset.
ENVELOPE_BYTES = 2048
# A server's limit may be absurd; what then does not fit is its own trouble, told where it is sent.
LEAST_ROOM_BYTES = 6
# What a byte of the stream takes in JSON at most: a control character is `\u001b`.
MOST_ENCODED_BYTES = 6


class Piece(NamedTuple):
    """What one event carries; `cost` raw bytes of the stream, the first of them at `offset`."""

    offset: int
    data: str
    encoding: Literal["base64"] | None
    cost: int


class StreamText:
    """Turns one stream's bytes into pieces, in order.

    Args:
        offset: of the first byte.
        as_base64: may bytes that are no text be sent as they are?
    """

    def __init__(self, offset: int = 0, *, as_base64: bool = False) -> None:
        self.as_base64 = as_base64
        self._held = b""
        self.offset = offset  # of the next byte that is not in a piece

    @property
    def fed(self) -> int:
        """Offset of the next byte to be fed: pieces, and what is held back."""
        return self.offset + len(self._held)

    def pieces(self, data: bytes, limit: int, *, is_last: bool = False) -> Iterator[Piece]:
        """Yield what can be sent now.

        Args:
            data: what follows the last call's; what was held back goes first.
            limit: the most an event may measure, in bytes.
            is_last: nothing follows: hold nothing back.
        """
        room = max(LEAST_ROOM_BYTES, limit - ENVELOPE_BYTES)
        data = self._held + data
        self._held = b"" if is_last else incomplete_tail(data)
        whole = data[: len(data) - len(self._held)]
        if not whole:
            return
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            if self.as_base64:
                yield from self._binary(whole, room)
                return
            text = whole.decode(errors="replace")
        yield from self._text(text, len(whole), room)

    def _text(self, text: str, size: int, room: int) -> Iterator[Piece]:
        # Most fit for certain, and need not be encoded to be measured.
        parts = [text] if size * MOST_ENCODED_BYTES <= room else list(split_text(text, room))
        for number, part in enumerate(parts):
            # Only the sum has to be right where replaced characters hide the true length.
            is_last = number == len(parts) - 1
            cost = size if is_last else min(size, len(part.encode()))
            size -= cost
            yield self._piece(part, None, cost)

    def _binary(self, data: bytes, room: int) -> Iterator[Piece]:
        step = max(3, room // 4 * 3)
        for start in range(0, len(data), step):
            part = data[start : start + step]
            yield self._piece(base64.b64encode(part).decode(), "base64", len(part))

    def _piece(self, data: str, encoding: Literal["base64"] | None, cost: int) -> Piece:
        piece = Piece(self.offset, data, encoding, cost)
        self.offset += cost
        return piece


def incomplete_tail(data: bytes) -> bytes:
    """Return the up to three bytes at the end that begin a UTF-8 character and do not finish it."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte < 0x80:
            return b""
        if byte >= 0xC0:
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF5 else 1
            return data[-back:] if need > back else b""
    return b""
