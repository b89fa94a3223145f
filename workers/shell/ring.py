"""The last output of a terminal, by offset, for whoever missed some of it."""

from __future__ import annotations

KEPT_BYTES = 1 << 20
_COMPACT_BYTES = 256 << 10


class Ring:
    """Bytes [kept_from, end) of a stream, at most `max_bytes` of them.

    Args:
        first_offset: where the stream begins.
        max_bytes: what is kept; older bytes are dropped.
    """

    def __init__(self, first_offset: int = 0, max_bytes: int = KEPT_BYTES) -> None:
        self._buffer = bytearray()
        self._skip = 0  # bytes at the buffer's front that are gone; removed in large steps
        self._max_bytes = max_bytes
        self.kept_from = first_offset

    @property
    def end(self) -> int:
        """Offset of the next byte."""
        return self.kept_from + len(self._buffer) - self._skip

    def append(self, data: bytes) -> None:
        """Add to the end; drop from the front what is too much."""
        self._buffer += data
        self._drop_to(max(self.kept_from, self.end - self._max_bytes))

    def release(self, offset: int) -> None:
        """Everything below `offset` has arrived and need not be kept."""
        self._drop_to(min(max(offset, self.kept_from), self.end))

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Return up to `max_bytes` from `offset`, which must lie in [kept_from, end]."""
        start = self._skip + offset - self.kept_from
        return bytes(memoryview(self._buffer)[start : start + max_bytes])

    def _drop_to(self, offset: int) -> None:
        self._skip += offset - self.kept_from
        self.kept_from = offset
        if self._skip >= _COMPACT_BYTES or self._skip == len(self._buffer):
            del self._buffer[: self._skip]
            self._skip = 0
