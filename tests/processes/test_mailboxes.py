"""One contract for every kind of queue pair, between two ends in one loop and with a raw peer."""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

import pytest

if sys.platform == "win32":
    pytest.skip("the doubles need local sockets", allow_module_level=True)

from workers import frames, queues_posix, queues_windows
from workers.errors import MailboxError, MailboxFullError, PeerError
from workers.loop import Loop
from workers.queues import MAX_PENDING_BYTES, Mailbox

DEADLINE_S = 120.0


class End:
    """What one mailbox has told."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.frames: list[tuple[int, bytes]] = []
        self.closed: list[str] = []
        self.rooms = 0
        mailbox.on_frame = lambda kind, body: self.frames.append((kind, body))
        mailbox.on_closed = self.closed.append
        mailbox.on_room = self._on_room

    def _on_room(self) -> None:
        self.rooms += 1


class Pair:
    """A listener and a dialler in one loop."""

    def __init__(self, module, address: str) -> None:
        self.module = module
        self.address = address
        self.loop = Loop()
        self.peers: list[Mailbox] = []
        self.allowed = True
        self.listener = module.listen(
            self.loop, address, lambda pid, uid: self.allowed, self.peers.append
        )

    def dial(self) -> Mailbox:
        return self.module.dial(self.loop, self.address, lambda pid, uid: True)

    def connect(self) -> tuple[End, End]:
        count = len(self.peers)
        dialler = self.dial()
        self.until(lambda: len(self.peers) > count)
        return End(dialler), End(self.peers[-1])

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "did not happen"
            self.loop.turn(0.05)

    def settle(self) -> None:
        """Give threads and the loop a while to do what they must not do."""
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            self.loop.turn(0.02)


@pytest.fixture(params=[queues_posix, queues_windows], ids=["sockets", "pipes"])
def pair(request, tmp_path):
    before = threading.active_count()
    made = Pair(request.param, str(tmp_path / "s"))
    ends: list[End] = []
    connect = made.connect

    def remembering() -> tuple[End, End]:
        ends.extend(connect())
        return ends[-2], ends[-1]

    made.connect = remembering  # type: ignore[method-assign]
    yield made
    for end in ends:
        end.mailbox.close()
    for peer in made.peers:
        peer.close()
    made.listener.close()
    made.until(lambda: threading.active_count() <= before)
    made.loop.turn(0.01)
    made.loop.close()


def message(body: bytes) -> bytes:
    return frames.message_frame(body)


def test_frames_arrive_whole_and_in_order_both_ways(pair):
    left, right = pair.connect()
    chosen = random.Random(7)
    sizes = [chosen.choice([0, 1, 5, 4096, 70_000, 300_000]) for _ in range(60)]
    bodies = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    for body in bodies:
        for end in (left, right):
            pair.until(lambda end=end: end.mailbox.pending_bytes < MAX_PENDING_BYTES // 4)
            end.mailbox.put(message(body))
    pair.until(lambda: len(left.frames) == len(right.frames) == len(bodies))
    assert left.frames == right.frames == [(frames.MESSAGE, body) for body in bodies]
    assert not left.closed and not right.closed


def test_largest_frame_passes(pair):
    left, right = pair.connect()
    body = os.urandom(frames.MAX_BODY_BYTES)
    left.mailbox.put(message(body))
    pair.until(lambda: right.frames)
    assert right.frames == [(frames.MESSAGE, body)]


def test_closing_is_told_to_the_peer_once_after_its_last_frame(pair):
    left, right = pair.connect()
    left.mailbox.put(message(b"last"))
    pair.until(lambda: not left.mailbox.pending_bytes and right.frames)
    left.mailbox.close()
    left.mailbox.close()
    pair.until(lambda: right.closed)
    pair.settle()
    assert right.frames == [(frames.MESSAGE, b"last")]
    assert right.closed == ["closed by peer"]
    assert left.closed == []


def test_nothing_comes_after_close(pair):
    left, right = pair.connect()
    right.mailbox.close()
    left.mailbox.put(message(b"late"))
    right.mailbox.put(message(b"ignored"))
    pair.until(lambda: left.closed)
    assert right.frames == [] and right.closed == []


def test_close_from_within_a_frame_ends_the_delivery(pair):
    left, right = pair.connect()

    def on_frame(kind: int, body: bytes) -> None:
        right.frames.append((kind, body))
        right.mailbox.close()

    right.mailbox.on_frame = on_frame
    left.mailbox.put(message(b"one") + message(b"two"))
    pair.until(lambda: left.closed)
    assert right.frames == [(frames.MESSAGE, b"one")]


def test_paused_mailbox_holds_the_peer_up_and_goes_on(pair):
    left, right = pair.connect()
    right.mailbox.pause(True)
    body = b"x" * 100_000
    for _ in range(40):
        left.mailbox.put(message(body))
    pair.settle()
    assert left.mailbox.pending_bytes > 1_000_000
    taken = len(right.frames)
    assert taken <= 10
    pair.settle()
    assert len(right.frames) == taken
    right.mailbox.pause(False)
    pair.until(lambda: len(right.frames) == 40)
    pair.until(lambda: left.mailbox.pending_bytes == 0)  # its writer may be the last to know


def test_room_is_told_when_a_full_mailbox_empties(pair):
    left, right = pair.connect()
    right.mailbox.pause(True)
    while left.mailbox.pending_bytes < 600_000:
        left.mailbox.put(message(b"x" * 50_000))
    pair.settle()
    assert left.rooms == 0
    right.mailbox.pause(False)
    pair.until(lambda: left.rooms)
    assert left.mailbox.pending_bytes <= 256 << 10
    pair.until(lambda: not left.mailbox.pending_bytes)
    assert left.rooms == 1


def test_peer_that_never_reads_fills_the_mailbox_without_blocking(pair):
    left, right = pair.connect()
    right.mailbox.pause(True)
    with pytest.raises(MailboxFullError):
        for _ in range(MAX_PENDING_BYTES // 100_000 + 10):
            left.mailbox.put(message(b"x" * 100_000))
    assert left.mailbox.pending_bytes <= MAX_PENDING_BYTES


@pytest.mark.parametrize(
    "bytes_of_a_stranger",
    [
        struct.pack(">IB", 1 << 31, frames.DATA),
        struct.pack(">iB", -1, frames.DATA),
        struct.pack(">IB", frames.MAX_BODY_BYTES + 1, frames.MESSAGE),
        struct.pack(">IB", 3, 99) + b"abc",
        b"\x80\x04\x95pickle says hello\x94.",
    ],
)
def test_bytes_that_are_no_frames_end_the_mailbox(pair, bytes_of_a_stranger):
    left, right = pair.connect()
    left.mailbox.put(message(b"good"))
    left.mailbox.put(bytes_of_a_stranger)
    pair.until(lambda: right.closed)
    assert right.frames == [(frames.MESSAGE, b"good")]
    assert right.closed[0].startswith("ipc_protocol")


def test_half_a_frame_and_then_the_end_is_no_frame(pair):
    left, right = pair.connect()
    left.mailbox.put(message(b"whole") + message(b"cut off")[:-2])
    pair.until(lambda: right.frames)
    left.mailbox.close()
    pair.until(lambda: right.closed)
    assert right.frames == [(frames.MESSAGE, b"whole")]


def test_a_peer_that_may_not_dial_is_sent_away(pair):
    pair.allowed = False
    end = End(pair.dial())
    pair.until(lambda: end.closed)
    assert pair.peers == []


def test_a_stranger_who_answers_is_not_talked_to(pair):
    with pytest.raises(PeerError):
        pair.module.dial(pair.loop, pair.address, lambda pid, uid: False)


def test_dialling_nobody_is_an_error(pair):
    with pytest.raises(MailboxError):
        pair.module.dial(pair.loop, pair.address + "-not-there", lambda pid, uid: True)


def test_listener_takes_one_dialler_after_another(pair):
    for _ in range(7):
        left, right = pair.connect()
        left.mailbox.put(message(b"hello"))
        pair.until(lambda right=right: right.frames)
        left.mailbox.close()
        pair.until(lambda right=right: right.closed)


def test_closed_listener_takes_nobody(pair):
    pair.listener.close()
    pair.settle()
    count = len(pair.peers)
    try:
        late = pair.dial()
    except MailboxError:
        pass
    else:
        late.close()
        pair.settle()
    assert len(pair.peers) == count


def test_pipe_reader_takes_no_announcement_of_two_gibibytes(tmp_path):
    pair = Pair(queues_windows, str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(pair.address)
        pair.until(lambda: pair.peers)
        end = End(pair.peers[0])
        raw.sendall(struct.pack("!i", 0x7FFFFFFF))
        pair.until(lambda: end.closed)
    assert end.closed[0].startswith("read failed")
    pair.listener.close()
    pair.settle()
    pair.loop.close()
