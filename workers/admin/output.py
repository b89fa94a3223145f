"""What is kept of an output stream: its head, its tail and its true size; memory stays flat.

Pure. Source: contract 1.4 "head and tail of each".
"""

from __future__ import annotations

from workers.messages import Captured


class Capture:
    """Takes a stream piece by piece.

    Args:
        keep_bytes: of the head, and of the tail.
    """

    def __init__(self, keep_bytes: int) -> None:
        self._keep = keep_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self.total_bytes = 0

    def append(self, data: bytes) -> None:
        self.total_bytes += len(data)
        room = self._keep - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if len(data) >= self._keep:
            self._tail[:] = data[-self._keep :]
        elif data:
            self._tail += data
            # Cut now and then: cutting each time would move the whole tail for every byte.
            if len(self._tail) > 4 * self._keep:
                del self._tail[: -self._keep]

    def captured(self, note: str = "") -> Captured:
        """Return head and tail; the head alone, with everything in it, where nothing was lost.

        Args:
            note: a sentence of ours, a line of its own at the end; the true size leaves it out.
        """
        tail = bytes(self._tail[-self._keep :])
        whole = len(self._head) + len(tail) == self.total_bytes
        head = bytes(self._head)
        if whole:
            return Captured(head=_noted(head + tail, note), total_bytes=self.total_bytes)
        return Captured(head=head, tail=_noted(tail, note), total_bytes=self.total_bytes)


def _noted(text: bytes, note: str) -> bytes:
    if not note:
        return text
    line_end = b"\n" if text and not text.endswith(b"\n") else b""
    return text + line_end + f"jackline: {note}\n".encode()
