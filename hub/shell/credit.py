"""How much more output an agent may send for one session. Pure.

Rules: an agent begins with 64 KiB; more is granted when half of the window is used up and the
consumer has taken it, so that a keystroke's echo costs no event; the window doubles, to 256 KiB at
most, as long as the agent runs into its end.
Source: contract 1.7 (`credit`).
"""

from __future__ import annotations

from wire.limits import CREDIT_INITIAL_BYTES, CREDIT_MAX_BYTES

# An agent holds back the beginning of a character, and stops short of its last bytes.
_NEARLY_BYTES = 4 << 10


class Credit:
    """One session's window; offsets count bytes of the raw stream."""

    def __init__(self, offset: int = 0) -> None:
        self.begin(offset)

    def begin(self, offset: int) -> None:
        """An agent starts, or starts again, to send from `offset`: it has its first window."""
        self._window = CREDIT_INITIAL_BYTES
        self._is_full = False
        self.granted_to = offset + self._window

    def received(self, end: int) -> None:
        """Everything below `end` is here."""
        if end >= self.granted_to - _NEARLY_BYTES:
            self._is_full = True

    def skipped(self, count: int) -> None:
        """The agent has lost that much; it costs no credit."""
        self.granted_to += count

    def grant(self, consumed: int) -> int:
        """Return how much more to grant now, when everything below `consumed` has been taken."""
        if self.granted_to - consumed > self._window // 2:
            return 0
        if self._is_full:
            self._window = min(self._window * 2, CREDIT_MAX_BYTES)
            self._is_full = False
        more = max(0, consumed + self._window - self.granted_to)
        self.granted_to += more
        return more
