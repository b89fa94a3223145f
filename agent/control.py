"""The control socket's server: requests of this machine's admin, answered by the core's loop.

Protocol: a client sends one line of JSON, `{"do": NAME, ...}`, and gets one line back,
`{"ok": true, ...}` or `{"ok": false, "error": CODE, "message": TEXT}`; then it may ask again. An
answer may come later, from any callback of the loop. Rules: nothing blocks; clients, line lengths
and silence are bounded; who may ask is decided by the kernel's word (SO_PEERCRED) on top of the
socket's mode.
Source: architecture "supervisord" (control socket), docs/reference/cli.rst.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.errors import ControlError, DirectoryError
from workers.loop import Loop, Timer

MAX_CLIENTS = 32
REST_S = 0.5
MAX_LINE_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 8 * 1024 * 1024
SILENCE_S = 30.0

Handler = Callable[[dict[str, Any], "Reply"], None]


class Reply:
    """The answer that a request still waits for; only the first call counts.

    A handler that raises `ControlError` has answered with it.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send: Callable[[dict[str, Any]], None] | None = send

    def __call__(self, **fields: Any) -> None:
        """Answer that it went well, with these fields."""
        self._answer({**fields, "ok": True})

    def fail(self, error: ControlError) -> None:
        """Answer that it did not."""
        self._answer({"ok": False, "error": error.code, "message": str(error)})

    def _answer(self, answer: dict[str, Any]) -> None:
        send, self._send = self._send, None
        if send is not None:
            send(answer)


class ControlServer:
    """Listens in the run directory and calls a handler per request.

    Args:
        loop: whose thread calls the handlers.
        path: of the socket; a dead agent's is replaced (the caller holds the agent's lock).
        handlers: by the request's `do`.
        group: id of a group whose members may ask, besides root and our own user.
        on_error: told of an exception that a handler did not expect; its client gets `failed`.
    """

    def __init__(
        self,
        loop: Loop,
        path: Path,
        handlers: Mapping[str, Handler],
        *,
        group: int | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._loop = loop
        self._path = path
        self._handlers = handlers
        self._group = group
        self._on_error = on_error
        self._clients: set[_Client] = set()
        self._listener: socket.socket | None = None

    def open(self) -> None:
        """Begin to listen.

        Raises:
            DirectoryError: there is no place for the socket; say so and exit 78.
        """
        if sys.platform == "win32":
            raise DirectoryError("the control socket needs Unix sockets, which Python lacks here")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            _bind(listener, self._path)
            if self._group is not None:
                os.chown(self._path, -1, self._group)
                os.chmod(self._path, 0o660)
            listener.listen(MAX_CLIENTS)
        except OSError as e:
            listener.close()
            raise DirectoryError(f"{self._path}: cannot listen: {e.strerror or e}") from e
        self._listener = listener
        self._loop.set_reader(listener.fileno(), self._on_connect)

    def close(self) -> None:
        """Stop listening, drop every client, and take the socket away."""
        for client in list(self._clients):
            client.close()
        if self._listener is None:
            return
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = None
        self._path.unlink(missing_ok=True)

    def _on_connect(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as e:
            if e.errno in (errno.EMFILE, errno.ENFILE):
                self._rest()
            return
        if len(self._clients) >= MAX_CLIENTS or not may_ask(connection, self._group):
            connection.close()
            return
        client = _Client(self._loop, connection, self._on_request, self._clients.discard)
        self._clients.add(client)

    def _rest(self) -> None:
        """No descriptor left: whoever waits would have us look again at once, and for ever."""
        assert self._listener is not None
        self._loop.set_reader(self._listener.fileno(), None)

        def look_again() -> None:
            if self._listener is not None:
                self._loop.set_reader(self._listener.fileno(), self._on_connect)

        self._loop.call_later(REST_S, look_again)

    def _on_request(self, line: bytes, reply: Reply) -> None:
        try:
            request, name = _parse(line)
            handler = self._handlers.get(name)
            if handler is None:
                raise ControlError("bad_request", f"there is no request {name[:40]!r}")
            handler(request, reply)
        except ControlError as e:
            reply.fail(e)
        except Exception as e:  # noqa: BLE001  # one bad handler must not end the agent
            if self._on_error is not None:
                self._on_error(e)
            reply.fail(ControlError("failed", "the agent could not answer; its log says why"))


class _Client:
    """One connection: a request at a time, then its answer, then the next."""

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        on_request: Callable[[bytes, Reply], None],
        on_closed: Callable[[_Client], None],
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._on_request = on_request
        self._on_closed = on_closed
        self._received = bytearray()
        self._to_send = bytearray()
        self._is_asking = False
        self._is_closed = False
        self._timer: Timer | None = None
        connection.setblocking(False)
        loop.set_reader(connection.fileno(), self._on_readable)
        self._wait()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        self._on_closed(self)

    def _wait(self) -> None:
        """Give the client `SILENCE_S` for its next step; while we owe an answer it has none."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._is_asking else self._loop.call_later(SILENCE_S, self.close)

    def _on_readable(self) -> None:
        try:
            data = self._connection.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if not data or len(self._received) > MAX_LINE_BYTES:
            self.close()
            return
        self._next_request()

    def _next_request(self) -> None:
        if self._is_asking or self._is_closed:
            return
        line, newline, rest = bytes(self._received).partition(b"\n")
        if not newline:
            return
        self._received = bytearray(rest)
        self._is_asking = True
        self._wait()
        self._on_request(line, Reply(self._answer))

    def _answer(self, answer: dict[str, Any]) -> None:
        if self._is_closed:
            return
        data = json.dumps(answer, default=str).encode() + b"\n"
        if len(data) > MAX_ANSWER_BYTES:
            too_much = {"ok": False, "error": "failed", "message": "the answer is too large"}
            data = json.dumps(too_much).encode() + b"\n"
        self._to_send += data
        self._is_asking = False
        self._wait()
        self._on_writable()
        # Not at once: an answer given inside a handler must not start the next handler in it.
        self._loop.call_soon(self._next_request)

    def _on_writable(self) -> None:
        if self._is_closed:
            return
        try:
            sent = self._connection.send(self._to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._to_send[:sent]
        waiting = self._on_writable if self._to_send else None
        self._loop.set_writer(self._connection.fileno(), waiting)


def may_ask(connection: socket.socket, group: int | None) -> bool:
    """Is the other end root, our own user, or a member of the control group?"""
    if sys.platform != "linux":
        return True  # the socket's mode decides alone
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("3i", credentials)
    if uid in (0, os.geteuid()):
        return True
    return group is not None and (gid == group or group in _groups(pid))


def _groups(pid: int) -> list[int]:
    """The other end's supplementary groups, from the kernel: name services may hang."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            line = next((line for line in file if line.startswith("Groups:")), "Groups:")
        return [int(word) for word in line.split()[1:]]
    except (OSError, ValueError):
        return []


def _bind(listener: socket.socket, path: Path) -> None:
    """Bind 0600 before anybody can connect; the umask would be every thread's."""
    path.unlink(missing_ok=True)
    try:
        listener.bind(str(path))
    except OSError as e:
        if "too long" in str(e):
            raise OSError(errno.ENAMETOOLONG, "the path is too long for a socket") from e
        raise
    path.chmod(0o600)


def _parse(line: bytes) -> tuple[dict[str, Any], str]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise ControlError("bad_request", "the request is not JSON") from e
    if not isinstance(request, dict) or not isinstance(name := request.get("do"), str):
        raise ControlError("bad_request", "the request needs a text `do`")
    return request, name
