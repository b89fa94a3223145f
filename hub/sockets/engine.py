"""Engine.IO's server side: the library's, with our sockets and one watch over all of them.

Rules: a socket that has joined no namespace within JOIN_S is closed, and so is one whose binary
attachments do not come within ATTACHMENTS_S, or to whom more than MAX_BACKLOG_BYTES wait; a peer
that does not answer a ping within `ping_timeout` is gone. A reply to a POST is `ok`, as one fielded
client library insists on.

Source: Engine.IO protocol 4; fault cases A, D.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import engineio
from engineio import packet
from engineio.exceptions import QueueEmpty

from hub.errors import ProtocolError
from hub.sockets.complaints import Complaints
from hub.sockets.engine_socket import EngineSocket

JOIN_S = 5.0
ATTACHMENTS_S = 10.0
PING_TIMEOUT_S = 20.0
MAX_PAYLOAD_BYTES = 1_000_000
MAX_BACKLOG_BYTES = 32 * 1024 * 1024
"""What a peer asked for and does not take: more is its own doing, and everybody's memory."""
WATCH_S = 0.5
NOT_JOINED = "not_joined"
INCOMPLETE = "incomplete"


class Engine(engineio.AsyncServer):  # type: ignore[misc]
    """See the module. `on_text` is set by the Socket.IO server above."""

    sockets: dict[str, EngineSocket]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, monitor_clients=False)
        self.complaints = Complaints()
        self.strangers: Counter[str] = Counter()
        """By address: open sockets that have joined no namespace."""
        self.on_text: Callable[[EngineSocket, str], Awaitable[None]] = _unset

    async def on_binary(self, socket: EngineSocket, data: bytes) -> None:
        """Count an attachment that was announced; nobody reads it."""
        if socket.attachments_due < 1 or len(data) > MAX_PAYLOAD_BYTES:
            raise ProtocolError("bytes that nobody announced, or too many")
        socket.attachments_due -= 1
        if socket.attachments_due == 0:
            socket.attachments_by_s = None

    async def tell_closed(self, sid: str, reason: str) -> None:
        """Tell the namespaces of a socket that it is gone."""
        await self.handlers["disconnect"](sid, reason)

    async def watch(self) -> None:
        """Look at every socket, again and again."""
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = time.monotonic()
            for sid, socket in list(self.sockets.items()):
                if socket.closed:
                    self.sockets.pop(sid, None)
                else:
                    await self._look_at(socket, now_s)

    async def _look_at(self, socket: EngineSocket, now_s: float) -> None:
        if not socket.has_joined and now_s - socket.opened_s >= JOIN_S:
            await socket.close(wait=False, abort=True, reason=NOT_JOINED)
        elif socket.backlog_bytes > MAX_BACKLOG_BYTES:
            await socket.give_up()
        elif socket.attachments_by_s is not None and now_s >= socket.attachments_by_s:
            await socket.fail(INCOMPLETE)
        elif socket.pong_by_s is not None and now_s >= socket.pong_by_s:
            await socket.close(wait=False, reason=self.reason.PING_TIMEOUT)
        elif socket.ping_at_s is not None and now_s >= socket.ping_at_s:
            socket.ping(now_s)

    # -- the library's, changed ------------------------------------------------------------------

    async def _handle_connect(
        self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None
    ) -> Any:
        sid = self.generate_id()
        socket = self.sockets[sid] = EngineSocket(self, sid, environ)
        await socket.send(packet.Packet(packet.OPEN, self._opening(sid, transport)))
        await self.handlers["connect"](sid, environ)
        socket.schedule_ping()
        if transport == "polling":
            socket.connected = True
            try:
                return self._ok(await socket.poll())
            except QueueEmpty:
                return self._bad_request()
        try:
            return await socket.handle_get_request(environ)
        finally:
            self.sockets.pop(sid, None)
            await socket.close(wait=False, abort=True)

    def _opening(self, sid: str, transport: str) -> dict[str, Any]:
        return {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingTimeout": int(self.ping_timeout * 1000),
            "pingInterval": int(self.ping_interval * 1000),
            "maxPayload": self.max_http_buffer_size,
        }

    def _upgrades(self, sid: str, transport: str) -> list[str]:
        return ["websocket"] if transport == "polling" and "websocket" in self.transports else []

    def _ok(self, packets: Any = None, headers: Any = None, jsonp_index: Any = None) -> Any:
        reply = super()._ok(packets, headers, jsonp_index)
        if packets is None:
            reply["response"] = b"ok"
        return reply


async def _unset(_socket: EngineSocket, _text: str) -> None:
    raise ProtocolError("nobody listens")
