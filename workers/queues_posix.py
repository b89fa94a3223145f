"""Queue pairs over Unix stream sockets: non-blocking, with the peer's credentials checked."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable

from workers.errors import FrameError, MailboxError, MailboxFullError, PeerError
from workers.frames import FrameDecoder
from workers.loop import Loop

assert sys.platform != "win32"

MAX_PENDING_BYTES = 8 << 20
ROOM_BYTES = 256 << 10
_READ_BYTES = 128 << 10
_BUFFER_BYTES = 256 << 10


def _ignore(*_: object) -> None:
    return None


class SocketMailbox:
    """One end of a connected pair; see `workers.queues.Mailbox`."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.on_frame: Callable[[int, bytes], None] = _ignore
        self.on_closed: Callable[[str], None] = _ignore
        self.on_room: Callable[[], None] = _ignore
        self.pending_bytes = 0
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._decoder = FrameDecoder()
        self._out: deque[memoryview] = deque()
        self._was_full = False
        self._closed = False
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        loop.set_reader(self._fd, self._on_readable)

    def put(self, frame: bytes) -> None:
        if self._closed:
            return
        if self.pending_bytes + len(frame) > MAX_PENDING_BYTES:
            raise MailboxFullError(f"{self.pending_bytes} bytes wait for a peer that does not read")
        view = memoryview(frame)
        if not self._out:
            view = view[self._send(view) :]
            if not view or self._closed:
                return
            self._loop.set_writer(self._fd, self._on_writable)
        self._out.append(view)
        self.pending_bytes += len(view)
        self._was_full = self._was_full or self.pending_bytes > ROOM_BYTES

    def pause(self, paused: bool) -> None:
        if not self._closed:
            self._loop.set_reader(self._fd, None if paused else self._on_readable)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.forget(self._fd)
            self._sock.close()
            self._out.clear()

    def _send(self, view: memoryview) -> int:
        try:
            return self._sock.send(view)
        except BlockingIOError:
            return 0
        except OSError as e:
            reason = f"write failed: {e.strerror}"  # `e` is gone when the lambda runs
            self._loop.call_soon(lambda: self._fail(reason))
            return 0

    def _on_writable(self) -> None:
        while self._out:
            view = self._out[0]
            sent = self._send(view)
            self.pending_bytes -= sent
            if sent < len(view):
                self._out[0] = view[sent:]
                break
            self._out.popleft()
        if not self._out:
            self._loop.set_writer(self._fd, None)
        if self._was_full and self.pending_bytes <= ROOM_BYTES:
            self._was_full = False
            self.on_room()

    def _on_readable(self) -> None:
        try:
            chunk = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as e:
            self._fail(f"read failed: {e.strerror}")
            return
        if not chunk:
            self._fail("closed by peer")
            return
        try:
            for kind, body in self._decoder.feed(chunk):
                self.on_frame(kind, body)
                if self._closed:
                    return
        except FrameError as e:
            self._fail(f"ipc_protocol: {e}")

    def _fail(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self.on_closed(reason)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return (pid, uid) of the process at the other end; pid 0 where the system cannot tell."""
    if sys.platform == "linux":
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _gid = struct.unpack("3i", raw)
        return pid, uid
    raw = sock.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED: struct xucred
    return 0, struct.unpack_from("Ii", raw)[1]


def dial(loop: Loop, address: str, may_answer: Callable[[int, int], bool]) -> SocketMailbox:
    """Connect to a worker that listens at `address` (a socket path).

    Args:
        may_answer: given (pid, uid) of who listens there.

    Raises:
        MailboxError: nobody listens.
        PeerError: somebody else does.
    """
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as e:
        raise MailboxError(f"no descriptor for {address}: {e.strerror}") from e
    try:
        sock.setblocking(False)
        sock.connect(address)
        if not may_answer(*peer_of(sock)):
            raise PeerError(f"{address} is answered by a stranger")
    except OSError as e:
        sock.close()
        raise MailboxError(f"{address}: {e.strerror}") from e
    except PeerError:
        sock.close()
        raise
    return SocketMailbox(loop, sock)


class SocketListener:
    """A listening address; every accepted peer goes to `on_peer` when `may_dial` allows it."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        may_dial: Callable[[int, int], bool],
        on_peer: Callable[[SocketMailbox], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._may_dial = may_dial
        self._on_peer = on_peer
        sock.setblocking(False)
        loop.set_reader(sock.fileno(), self._on_readable)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.forget(self._sock.fileno())
            self._sock.close()

    def _on_readable(self) -> None:
        try:
            peer, _ = self._sock.accept()
        except OSError:
            return
        if self._may_dial(*peer_of(peer)):
            self._on_peer(SocketMailbox(self._loop, peer))
        else:
            peer.close()


def bind(address: str) -> socket.socket:
    """Make the listening socket of `address`, readable and writable for this user alone.

    Raises:
        MailboxError: the path cannot be bound.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)
        # Nobody can connect before `listen`. Not by the umask: that is every thread's.
        sock.bind(address)
        os.chmod(address, 0o600)
        sock.listen(4)
    except OSError as e:
        sock.close()
        raise MailboxError(f"{address}: {e.strerror}") from e
    return sock


def listen(
    loop: Loop,
    address: str | socket.socket,
    may_dial: Callable[[int, int], bool],
    on_peer: Callable[[SocketMailbox], None],
) -> SocketListener:
    """Listen at a path, or on a socket that `bind` made before this process was forked."""
    sock = bind(address) if isinstance(address, str) else address
    return SocketListener(loop, sock, may_dial, on_peer)
