"""A TCP relay that loses replies: the request arrives, and the connection ends unanswered."""

from __future__ import annotations

import contextlib
import socket

from tests.doubles.sockets import Listener


class CuttingProxy(Listener):
    """Relays to a port of loopback; the first `cuts` answers are lost.

    `cut` counts them. Each connection carries one exchange.
    """

    def __init__(self, port: int, cuts: int) -> None:
        self._upstream = port
        self._left = cuts
        self.cut = 0
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            self.keep(upstream)
            connection.settimeout(0.2)
            self._forward(connection, upstream)
            with contextlib.suppress(OSError):
                while data := upstream.recv(65536):
                    if self._left > 0:
                        self._left -= 1
                        self.cut += 1
                        return
                    connection.sendall(data)

    def _forward(self, connection: socket.socket, upstream: socket.socket) -> None:
        """Pass the request on: all that comes until it pauses."""
        with contextlib.suppress(TimeoutError):
            while data := connection.recv(65536):
                upstream.sendall(data)
