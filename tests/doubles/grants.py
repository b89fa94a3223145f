"""Credit as the scripted hub grants it: contract 1.7, row `credit`.

The agent starts each stream with a window of 64 KiB. What has come in is granted again: at once
(`auto`), at a steady rate (a number, bytes per second) or not at all (`manual`: the test does).
"""

from __future__ import annotations

from dataclasses import dataclass

BATCH_BYTES = 16 * 1024

Policy = str | int | float


@dataclass
class _Stream:
    owed: int = 0
    allowance: float = 0.0


class Grants:
    """Decides how much to grant; sends nothing itself."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], _Stream] = {}

    def took(self, key: tuple[str, str], count: int, policy: Policy) -> int:
        """Note `count` bytes of a stream; return how many to grant at once."""
        stream = self._streams.setdefault(key, _Stream())
        stream.owed += count
        if policy == "auto" and stream.owed >= BATCH_BYTES:
            granted, stream.owed = stream.owed, 0
            return granted
        return 0

    def tick(self, elapsed_s: float, policy: Policy) -> list[tuple[tuple[str, str], int]]:
        """Return the grants that are due now: (stream, bytes)."""
        due = []
        for key, stream in self._streams.items():
            if policy == "manual" or stream.owed == 0:
                stream.allowance = 0.0
                continue
            if isinstance(policy, str):
                granted = stream.owed
            else:
                stream.allowance += policy * elapsed_s
                granted = min(stream.owed, int(stream.allowance))
                stream.allowance -= granted
            stream.owed -= granted
            if granted:
                due.append((key, granted))
        return due

    def forget(self, identity: str) -> None:
        for key in [key for key in self._streams if key[1] == identity]:
            del self._streams[key]
