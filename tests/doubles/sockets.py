"""A loopback TCP listener whose connections each run in a thread; the other doubles build on it.

Rule: close() ends the listener and every connection, and waits for their threads.
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self


class Listener:
    """Accepts on 127.0.0.1; a subclass says what to do with a connection in `serve`."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def serve(self, connection: socket.socket) -> None:
        """Handle one connection in its own thread; it is closed afterwards."""
        raise NotImplementedError

    def keep(self, connection: socket.socket) -> None:
        """Have close() end this socket, too."""
        with self._lock:
            self._open.add(connection)

    def close(self) -> None:
        # shutdown() wakes a thread that is blocked in accept() or recv(); close() alone does not.
        with self._lock:
            ending = [self._listening, *self._open]
        for each in ending:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
        self._listening.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.keep(connection)
            self._start(self._handle, connection)

    def _handle(self, connection: socket.socket) -> None:
        try:
            self.serve(connection)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def relay(left: socket.socket, right: socket.socket) -> None:
    """Copy both ways until either side ends."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    back = threading.Thread(target=copy, args=(right, left), daemon=True)
    back.start()
    copy(left, right)
    back.join()
    right.close()
