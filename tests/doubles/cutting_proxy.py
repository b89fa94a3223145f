"""TCP relays that lose replies: the request arrives, and the connection ends unanswered."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.doubles.sockets import Listener


class CuttingProxy(Listener):
    """Relays to a port of loopback; the first `cuts` answers are lost.

    `cut` counts them. Each connection carries one exchange.

    Args:
        at_cut: called when an answer has begun to come that will be lost.
    """

    def __init__(self, port: int, cuts: int, at_cut: Callable[[], object] = lambda: None) -> None:
        self._upstream = port
        self._left = cuts
        self._at_cut = at_cut
        self.cut = 0
        self.forwarded = threading.Event()
        """A request has been passed on whole."""
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            self.keep(upstream)
            connection.settimeout(0.2)
            self._forward(connection, upstream)
            self.forwarded.set()
            with contextlib.suppress(OSError):
                while data := upstream.recv(65536):
                    if self._left > 0:
                        self._left -= 1
                        self._at_cut()
                        self.cut += 1
                        return
                    connection.sendall(data)

    def _forward(self, connection: socket.socket, upstream: socket.socket) -> None:
        """Pass the request on: all that comes until it pauses."""
        with contextlib.suppress(TimeoutError):
            while data := connection.recv(65536):
                upstream.sendall(data)


class LosingRelay(Listener):
    """Relays connections that are kept; an answer that holds `lose` is lost with its connection.

    It is lost once: then `lose` is None, until somebody sets it again.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.lose: bytes | None = None
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            self.keep(upstream)
            threading.Thread(target=self._requests, args=(connection, upstream)).start()
            with contextlib.suppress(OSError):
                while data := upstream.recv(1 << 20):
                    if self.lose is not None and self.lose in data:
                        self.lose = None
                        break
                    connection.sendall(data)
            for each in (connection, upstream):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _requests(self, connection: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)
