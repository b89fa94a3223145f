"""The last output of one session, by offset: what a console that attaches is shown.

Rules: offsets count the raw bytes of the terminal; what is known already is skipped, what is
missing empties the buffer, since a screen with a hole shows nothing that was there. Pure.
Source: contract 1.7 (`resume`).
"""

from __future__ import annotations

KEPT_BYTES = 256 << 10
_COMPACT_BYTES = 64 << 10


class Replay:
    """Bytes [kept_from, end) of a stream, at most `max_bytes` of them."""

    def __init__(self, offset: int = 0, max_bytes: int = KEPT_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes
        self.kept_from = offset
        self.end = offset

    def append(self, offset: int, data: bytes) -> bytes:
        """Add output.

        Args:
            offset: of its first byte; beyond `end`, what lies between is lost.
            data: what came.

        Returns:
            what of it is new.
        """
        if offset > self.end:
            self.skip_to(offset)
        fresh = data[self.end - offset :] if offset < self.end else data
        self._buffer += fresh
        self.end += len(fresh)
        if len(self._buffer) > self._max_bytes + _COMPACT_BYTES:
            del self._buffer[: len(self._buffer) - self._max_bytes]
        self.kept_from = max(self.kept_from, self.end - self._max_bytes)
        return fresh

    def skip_to(self, offset: int) -> None:
        """What lies before `offset` will never come, and what is kept ends before it."""
        if offset > self.end:
            self._buffer.clear()
            self.kept_from = self.end = offset

    def read(self, offset: int) -> bytes:
        """Return what is kept from `offset` on; older than `kept_from`: from there."""
        start = max(offset, self.kept_from)
        return bytes(self._buffer[len(self._buffer) - (self.end - start) :])
