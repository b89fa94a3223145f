"""A slow link: a TCP relay on loopback that carries so many bytes per second each way.

Its buffers are small, so that what queues, queues in the agent or its kernel, as behind a real
narrow line.
"""

from __future__ import annotations

import socket
import threading
import time

from tests.doubles.sockets import Listener

PIECE_BYTES = 8 * 1024
BUFFER_BYTES = 16 * 1024


class SlowLink(Listener):
    """Relays every connection to one address on loopback."""

    def __init__(self, target_port: int, bytes_per_s: int) -> None:
        self._target_port = target_port
        self._bytes_per_s = bytes_per_s
        super().__init__()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)

    def serve(self, connection: socket.socket) -> None:
        target = socket.create_connection(("127.0.0.1", self._target_port))
        self.keep(target)
        for each in (connection, target):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._copy, args=(target, connection), daemon=True)
        back.start()
        self._copy(connection, target)
        back.join()
        target.close()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        free_at = time.monotonic()
        try:
            while data := source.recv(PIECE_BYTES):
                free_at = max(free_at, time.monotonic()) + len(data) / self._bytes_per_s
                delay = free_at - time.monotonic()
                if delay > 0:
                    time.sleep(delay)
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
