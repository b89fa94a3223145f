"""The ring against a plain model: all bytes ever appended."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers.shell import ring
from workers.shell.ring import Ring


class RingAgainstBytes(RuleBasedStateMachine):
    """`written` is the whole stream from `first` on; the ring keeps its end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 1000
        self.most = 64
        self.ring = Ring(self.first, self.most)
        self.written = bytearray()
        self.released = self.first

    @rule(data=st.binary(max_size=200))
    def append(self, data: bytes) -> None:
        self.ring.append(data)
        self.written += data

    @rule(offset=st.integers(0, 3000))
    def release(self, offset: int) -> None:
        self.ring.release(offset)
        self.released = max(self.released, min(offset, self.first + len(self.written)))

    @precondition(lambda self: self.ring.end > self.ring.kept_from)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(self.ring.kept_from, self.ring.end))
        size = data.draw(st.integers(0, 300))
        at = offset - self.first
        assert self.ring.read(offset, size) == bytes(self.written[at : at + size])

    @invariant()
    def bounds_are_the_model_s(self) -> None:
        end = self.first + len(self.written)
        assert self.ring.end == end
        assert self.ring.kept_from == max(self.released, end - self.most)
        assert len(self.ring.read(self.ring.kept_from, 10_000)) == end - self.ring.kept_from


RingAgainstBytes.TestCase.settings = settings(deadline=None, max_examples=60)
test_ring_is_the_end_of_the_stream = RingAgainstBytes.TestCase


def test_ring_gives_memory_back() -> None:
    """Released bytes are removed in large steps, and all of them when nothing is left."""
    kept = Ring()
    for number in range(4000):
        kept.append(bytes([number % 251]) * 1024)
        if number % 4:
            kept.release(kept.end - 10)
        assert len(kept._buffer) <= ring.KEPT_BYTES + ring._COMPACT_BYTES + 1024
    kept.release(kept.end)
    assert len(kept._buffer) == 0
