r"""Queue pairs over named pipes: two threads per pipe, because Windows cannot select on one.

The same interface and promises as `queues_posix`. Bytes travel by `multiprocessing.connection`
(`send_bytes` and `recv_bytes` alone: nothing is pickled); each of its messages is a piece of the
stream of frames. Rules: callbacks come on the loop's thread; the reader thread has one piece under
way at most, so a paused or slow loop holds the peer up; a writer that is stuck in a peer that does
not read ends with that peer. The module runs on POSIX, too, where the tests use local sockets in
the place of pipes.
A pipe is made for its user alone to write to, and the token of `Dial` follows: see `_peer_of`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing import connection as mp

from workers.errors import FrameError, MailboxError, MailboxFullError, PeerError
from workers.frames import HEADER_BYTES, MAX_BODY_BYTES, FrameDecoder
from workers.loop import Loop

MAX_PENDING_BYTES = 8 << 20
ROOM_BYTES = 256 << 10
_JOIN_BYTES = 128 << 10
_MOST_BYTES = _JOIN_BYTES + MAX_BODY_BYTES + HEADER_BYTES

if sys.platform == "win32":
    Connection = mp.PipeConnection
else:
    Connection = mp.Connection


def _ignore(*_: object) -> None:
    return None


class PipeMailbox:
    """One end of a connected pair; see `workers.queues.Mailbox`."""

    def __init__(self, loop: Loop, connection: Connection) -> None:
        self.on_frame: Callable[[int, bytes], None] = _ignore
        self.on_closed: Callable[[str], None] = _ignore
        self.on_room: Callable[[], None] = _ignore
        self.pending_bytes = 0
        self._loop = loop
        self._connection = connection
        self._decoder = FrameDecoder()
        self._was_full = False
        self._closed = False
        self._paused = False
        # The writer waits for something in `_out`; the reader for `_go`, then for bytes or `_wake`.
        self._out: deque[bytes] = deque()
        self._has_out = threading.Condition()
        self._go = threading.Semaphore(0)
        self._reader_waits = True
        self._wake, self._waker = mp.Pipe(duplex=False)
        self._threads_left = 2
        for target in (self._read, self._write):
            threading.Thread(target=target, daemon=True).start()
        # Frames may come before `on_frame` is set, so the first read waits for the next turn.
        loop.call_soon(self._let_read)

    def put(self, frame: bytes) -> None:
        if self._closed:
            return
        if self.pending_bytes + len(frame) > MAX_PENDING_BYTES:
            raise MailboxFullError(f"{self.pending_bytes} bytes wait for a peer that does not read")
        self.pending_bytes += len(frame)
        self._was_full = self._was_full or self.pending_bytes > ROOM_BYTES
        with self._has_out:
            self._out.append(frame)
            self._has_out.notify()

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._let_read()

    def close(self) -> None:
        if self._closed:
            return
        with self._has_out:
            self._closed = True
            self._out.clear()
            self._has_out.notify()
        self._waker.close()  # its other end becomes readable
        self._go.release()

    # On the loop's thread, called by the two threads ---------------------------------------------

    def _let_read(self) -> None:
        if self._reader_waits and not self._paused:
            self._reader_waits = False
            self._go.release()

    def _on_chunk(self, chunk: bytes) -> None:
        if self._closed:
            return
        try:
            for kind, body in self._decoder.feed(chunk):
                self.on_frame(kind, body)
                if self._closed:
                    return
        except FrameError as e:
            self._fail(f"ipc_protocol: {e}")
            return
        self._reader_waits = True
        self._let_read()

    def _on_sent(self, count: int) -> None:
        self.pending_bytes -= count
        if self._was_full and self.pending_bytes <= ROOM_BYTES and not self._closed:
            self._was_full = False
            self.on_room()

    def _fail(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self.on_closed(reason)

    def _on_thread_done(self) -> None:
        self._threads_left -= 1
        if self._threads_left == 0:
            self._connection.close()
            self._wake.close()

    # On threads of their own ---------------------------------------------------------------------

    def _read(self) -> None:
        while True:
            self._go.acquire()
            if self._wake in mp.wait([self._connection, self._wake]):
                break
            try:
                chunk = self._connection.recv_bytes(_MOST_BYTES)
            except EOFError:
                self._post_failure("closed by peer")
                break
            except OSError as e:
                self._post_failure(f"read failed: {e.strerror or e}")
                break
            self._loop.call_threadsafe(partial(self._on_chunk, chunk))
        self._loop.call_threadsafe(self._on_thread_done)

    def _write(self) -> None:
        while (chunk := self._next_chunk()) is not None:
            try:
                self._connection.send_bytes(chunk)
            except OSError as e:
                self._post_failure(f"write failed: {e.strerror or e}")
                break
            self._loop.call_threadsafe(partial(self._on_sent, len(chunk)))
        self._loop.call_threadsafe(self._on_thread_done)

    def _next_chunk(self) -> bytes | None:
        """Wait for frames and join what has gathered; None when the mailbox is closed."""
        with self._has_out:
            self._has_out.wait_for(lambda: self._out or self._closed)
            if self._closed:
                return None
            frames = [self._out.popleft()]
            size = len(frames[0])
            while self._out and size + len(self._out[0]) <= _JOIN_BYTES:
                frames.append(self._out.popleft())
                size += len(frames[-1])
        return b"".join(frames)

    def _post_failure(self, reason: str) -> None:
        self._loop.call_threadsafe(partial(self._fail, reason))


def dial(loop: Loop, address: str, may_answer: Callable[[int, int], bool]) -> PipeMailbox:
    r"""Connect to a worker that listens at `address` (`\\.\pipe\...`).

    Args:
        may_answer: given (pid, 0) of who listens there.

    Raises:
        MailboxError: nobody listens.
        PeerError: somebody else does.
    """
    try:
        connection = mp.Client(address)
    except OSError as e:
        raise MailboxError(f"{address}: {e.strerror or e}") from e
    assert isinstance(connection, Connection)
    if not may_answer(*_peer_of(connection, "GetNamedPipeServerProcessId")):
        connection.close()
        raise PeerError(f"{address} is answered by a stranger")
    return PipeMailbox(loop, connection)


class PipeListener:
    """A listening address with the thread that accepts at it."""

    def __init__(
        self,
        loop: Loop,
        address: str,
        may_dial: Callable[[int, int], bool],
        on_peer: Callable[[PipeMailbox], None],
    ) -> None:
        self._loop = loop
        self._address = address
        self._may_dial = may_dial
        self._on_peer = on_peer
        self._closed = False
        try:
            self._listener = mp.Listener(address, backlog=4)
        except OSError as e:
            raise MailboxError(f"{address}: {e.strerror or e}") from e
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening; the thread is woken by a caller of our own."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError, EOFError):
                mp.Client(self._address).close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                peer = self._listener.accept()
            except (OSError, EOFError):
                continue  # whoever dialled has gone again
            assert isinstance(peer, Connection)
            if self._closed:
                peer.close()
            else:
                self._loop.call_threadsafe(partial(self._welcome, peer))
        self._listener.close()

    def _welcome(self, peer: Connection) -> None:
        if not self._closed and self._may_dial(*_peer_of(peer, "GetNamedPipeClientProcessId")):
            self._on_peer(PipeMailbox(self._loop, peer))
        else:
            peer.close()


def listen(
    loop: Loop,
    address: str,
    may_dial: Callable[[int, int], bool],
    on_peer: Callable[[PipeMailbox], None],
) -> PipeListener:
    r"""Listen at `address` (`\\.\pipe\...`).

    Raises:
        MailboxError: somebody has that name already.
    """
    return PipeListener(loop, address, may_dial, on_peer)


def _peer_of(connection: Connection, call: str) -> tuple[int, int]:
    """Return (pid, 0) of the other end; there are no uids, and pid 0 says "cannot tell".

    What stands in for the uid is the pipe's default security: its creator, administrators and the
    system may write to it, everybody else may only look.
    """
    if sys.platform != "win32":
        return 0, 0
    import ctypes

    pid = ctypes.c_ulong(0)
    found = getattr(ctypes.windll.kernel32, call)(connection.fileno(), ctypes.byref(pid))
    return (pid.value if found else 0), 0
