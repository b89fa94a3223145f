"""From a terminal's bytes to `shell_output` events, and the way back of what has left. Pure.

Text is decoded incrementally, so that a character split between two reads is held back; invalid
bytes become U+FFFD for a peer without `base64`, and are sent as base64 to one with it. Offsets are
those of the raw stream. Source: contract 1.3, 1.7.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from wire.shell import ShellOutput
from wire.shorten import split_text


class OutputEncoder:
    """Turns one session's bytes into events, in order.

    Args:
        as_base64: may bytes that are no text be sent as they are?
        with_offset: does the peer know `resume`?
    """

    def __init__(self, session: str, offset: int, *, as_base64: bool, with_offset: bool) -> None:
        self._session = session
        self._as_base64 = as_base64
        self._with_offset = with_offset
        self._held = b""
        self.offset = offset  # of the next byte that has not been put into an event

    @property
    def held_bytes(self) -> int:
        """Bytes of a character whose rest has not come."""
        return len(self._held)

    def encode(
        self, data: bytes, limit: int, *, is_last: bool = False
    ) -> Iterator[tuple[ShellOutput, int]]:
        """Yield events and how many raw bytes each stands for.

        Args:
            data: what follows the last call's; what is held back goes first.
            limit: the most an event may measure, in bytes.
            is_last: nothing follows: hold nothing back.
        """
        data = self._held + data
        self._held = b"" if is_last else incomplete_tail(data)
        whole = data[: len(data) - len(self._held)]
        if not whole:
            return
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            if self._as_base64:
                yield from self._binary(whole, limit)
                return
            text = whole.decode(errors="replace")
        yield from self._text(text, len(whole), limit)

    def _text(self, text: str, size: int, limit: int) -> Iterator[tuple[ShellOutput, int]]:
        pieces = list(split_text(text, limit - 1024))
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            # Only the sum has to be right where replaced characters hide the true length.
            cost = size if last else min(size, len(piece.encode()))
            size -= cost
            yield self._event(piece, cost, None)

    def _binary(self, data: bytes, limit: int) -> Iterator[tuple[ShellOutput, int]]:
        step = max(1, (limit - 1024) * 3 // 4)
        for start in range(0, len(data), step):
            part = data[start : start + step]
            yield self._event(base64.b64encode(part).decode(), len(part), "base64")

    def _event(self, data: str, cost: int, encoding: str | None) -> tuple[ShellOutput, int]:
        offset = self.offset if self._with_offset else None
        self.offset += cost
        event = ShellOutput(
            session=self._session,
            data=data,
            offset=offset,
            encoding="base64" if encoding else None,
        )
        return event, cost


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
