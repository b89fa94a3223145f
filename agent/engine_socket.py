"""The WebSocket under the engine: read in large pieces, bounded, its end told with a reason.

Source: RFC 6455; architecture "python-socketio, what it does not say on the tin".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.errors import LinkError
from agent.failures import failure_of, http_failure
from agent.socketio_client import websocket

_READ_CHUNK = 64 * 1024
# What a server may send as one message before we call it an attack: an event over 1 MiB is refused
# with its family's error, which needs it whole.
_MAX_MESSAGE = 64 * 1024 * 1024
_NO_CODE = 1005


class EngineSocket(websocket.WebSocket):  # type: ignore[misc]  # the library is untyped
    """One WebSocket.

    Args:
        on_first: given the first message, the engine's open packet.
        on_error: given the reason when reading ends.
    """

    def __init__(
        self,
        on_first: Callable[[bytes], None],
        on_error: Callable[[LinkError], None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._on_first: Callable[[bytes], None] | None = on_first
        self._on_error = on_error
        self._ahead = memoryview(b"")

    def connect(self, url: str, **options: Any) -> None:
        try:
            super().connect(url, **options)
        except websocket.WebSocketException as error:
            response = self.handshake_response
            if response is not None and 300 <= response.status < 400:
                raise http_failure(response.status, b"") from error
            raise

    def recv(self) -> str | bytes:
        try:
            opcode, frame = self.recv_data_frame()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise _closed_by(frame.data)
        except Exception as error:
            self._on_error(failure_of(error))
            raise
        if opcode != websocket.ABNF.OPCODE_TEXT:
            data: bytes = frame.data
            return data
        text: str = frame.data.decode()
        if self._on_first is not None:
            self._on_first(frame.data)
            self._on_first = None
        return text

    def _recv(self, size: int) -> bytes:
        if not self._ahead:
            self._ahead = memoryview(super()._recv(_READ_CHUNK))
        chunk, self._ahead = bytes(self._ahead[:size]), self._ahead[size:]
        fragments = self.cont_frame.cont_data
        length = (self.frame_buffer.length or 0) + (len(fragments[1]) if fragments else 0)
        if length > _MAX_MESSAGE:
            raise LinkError("protocol", f"the server sends a message of over {length} bytes")
        return chunk


def _closed_by(data: bytes) -> LinkError:
    code = int.from_bytes(data[:2], "big") if len(data) >= 2 else _NO_CODE
    said = data[2:].decode(errors="replace")[:120]
    detail = f" ({said})" if said.isprintable() and said else ""
    return LinkError("server_closed", f"the server closed the WebSocket with {code}{detail}")
