"""One Engine.IO connection, over WebSocket or polling: the library's, made strict and measured.

Rules: packets are read one after the other, each handled before the next is read, so order holds
and TCP tells a peer that it is too fast. What is no packet closes the connection, with one line in
the log. Nothing is timed by the wall clock, and no connection has a timer task of its own: the
engine's one watch looks at all of them. `backlog_bytes` is what has not been handed to the system.

Source: Engine.IO protocol 4; architecture "python-socketio, what it does not say on the tin".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from typing import TYPE_CHECKING, Any

from engineio import packet
from engineio.async_socket import AsyncSocket
from engineio.exceptions import ContentTooLongError

from hub.errors import ProtocolError

if TYPE_CHECKING:
    from hub.sockets.engine import Engine

MAX_POSTED_PACKETS = 256
PROTOCOL_ERROR = "protocol_error"
SLOW_CONSUMER = "slow_consumer"
_PACKET_COST = 64
_POLICY_CODE = 1008


class EngineSocket(AsyncSocket):  # type: ignore[misc]
    """See the module. Times are monotonic seconds."""

    server: Engine
    connected: bool
    closing: bool
    closed: bool

    def __init__(self, server: Engine, sid: str, environ: dict[str, Any]) -> None:
        super().__init__(server, sid)
        self.address = _address(environ)
        self.opened_s = time.monotonic()
        self.has_joined = False
        self._is_stranger = True
        server.strangers[self.address] += 1
        self.backlog_bytes = 0
        self.attachments_due = 0
        self.attachments_by_s: float | None = None
        self.ping_at_s: float | None = None
        self.pong_by_s: float | None = None
        self.end_reason = ""

    # -- out -------------------------------------------------------------------------------------

    def put_text(self, text: str) -> None:
        """Queue one Socket.IO packet; a closed connection takes nothing."""
        self._put(packet.Packet(packet.MESSAGE, text))

    async def send(self, pkt: packet.Packet) -> None:
        """Queue one Engine.IO packet: the library's way in."""
        self._put(pkt)

    def _put(self, pkt: packet.Packet) -> None:
        if self.closed:
            return
        self.backlog_bytes += _cost(pkt)
        self.queue.put_nowait(pkt)

    async def poll(self) -> list[packet.Packet]:
        """Return what a polling peer gets."""
        packets: list[packet.Packet] = await super().poll()
        self.backlog_bytes -= sum(map(_cost, packets))
        return packets

    async def _write(self, ws: Any) -> None:
        """Write the queue to a WebSocket until the connection ends."""
        try:
            while (pkt := await self.queue.get()) is not None:
                await ws.send(pkt.encode())
                self.backlog_bytes -= _cost(pkt)
        except OSError:
            pass
        await _close(ws, self.end_reason)

    # -- in --------------------------------------------------------------------------------------

    async def _websocket_handler(self, ws: Any) -> None:
        if self.connected and not await self._upgrade(ws):
            return
        self.connected = self.upgraded = True
        writer = asyncio.ensure_future(self._write(ws))
        try:
            await self._read(ws)
            await self.close(wait=False, abort=True, reason=self.server.reason.TRANSPORT_CLOSE)
            await writer
        finally:
            writer.cancel()

    async def _upgrade(self, ws: Any) -> bool:
        """Take a polling peer over; nothing is polled while that goes on."""
        self.upgrading = True
        try:
            if await ws.wait() != "2probe":
                return False
            await ws.send("3probe")
            self._put(packet.Packet(packet.NOOP))  # ends the poll that waits
            return bool(await ws.wait() == "5")
        except OSError:
            return False
        finally:
            self.upgrading = False

    async def _read(self, ws: Any) -> None:
        while not self.closed:
            try:
                data = await ws.wait()
            except OSError:
                return
            await self._take(data)

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Take what a polling peer posts.

        Raises:
            ContentTooLongError: too much, or no payload at all; the library answers 400.
        """
        length = int(environ.get("CONTENT_LENGTH", "0"))
        if length > self.server.max_http_buffer_size:
            raise ContentTooLongError
        try:
            parts = (await environ["wsgi.input"].read(length)).decode().split("\x1e")
        except UnicodeError as error:
            raise ContentTooLongError from error
        if len(parts) > MAX_POSTED_PACKETS or parts[0].startswith("d="):
            raise ContentTooLongError
        for part in parts:
            await self._take(part)

    async def _take(self, data: str | bytes) -> None:
        if self.closed:
            return
        try:
            await self._take_packet(data)
        except ProtocolError as error:
            await self.fail(PROTOCOL_ERROR, str(error))

    async def _take_packet(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            await self.server.on_binary(self, data)
            return
        match data[:1]:
            case "4":
                await self.server.on_text(self, data[1:])
            case "3":
                self.schedule_ping()
            case "b":
                await self.server.on_binary(self, _decoded(data[1:]))
            case "1":
                reason = self.server.reason.CLIENT_DISCONNECT
                await self.close(wait=False, abort=True, reason=reason)
            case "2" | "5" | "6":
                pass
            case _:
                raise ProtocolError("no Engine.IO packet")

    # -- life ------------------------------------------------------------------------------------

    def joined(self) -> None:
        """A namespace let it in."""
        self.has_joined = True
        self._be_known()

    def _be_known(self) -> None:
        if self._is_stranger:
            self._is_stranger = False
            strangers = self.server.strangers
            strangers[self.address] -= 1
            if strangers[self.address] <= 0:
                del strangers[self.address]

    def schedule_ping(self) -> None:
        """The peer lives: ask again after the interval."""
        self.pong_by_s = None
        self.ping_at_s = time.monotonic() + self.server.ping_interval

    def ping(self, now_s: float) -> None:
        """Ask whether the peer lives."""
        self.ping_at_s = None
        self.pong_by_s = now_s + self.server.ping_timeout
        self._put(packet.Packet(packet.PING))

    async def check_ping_timeout(self) -> bool:
        """The library asks before it sends; our watch alone decides."""
        return not self.closed

    async def fail(self, reason: str, detail: str = "") -> None:
        """Close for what the peer did; one line in the log."""
        self.server.complaints.tell(self.sid, reason, detail=detail, address=self.address)
        self.end_reason = reason
        await self.close(wait=False, abort=True, reason=reason)

    async def give_up(self) -> None:
        """Close for what the peer does not take, and keep none of it."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.backlog_bytes = 0
        await self.fail(SLOW_CONSUMER)

    async def close(
        self, wait: bool = True, abort: bool = False, reason: str | None = None
    ) -> None:
        """End the connection: tell the namespaces, write what is queued, close."""
        if self.closed or self.closing:
            return
        self.closing = True
        self._be_known()
        await self.server.tell_closed(self.sid, reason or self.server.reason.SERVER_DISCONNECT)
        if not abort:
            self._put(packet.Packet(packet.CLOSE))
        self.closed = True
        self.queue.put_nowait(None)


def _cost(pkt: packet.Packet | None) -> int:
    return _PACKET_COST + (len(pkt.data) if pkt is not None and pkt.data else 0)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("no base64") from error


def _address(environ: dict[str, Any]) -> str:
    client = environ["asgi.scope"].get("client")
    return str(client[0]) if client else ""


async def _close(ws: Any, reason: str) -> None:
    """Close a WebSocket; a reason is ours, and then the code says that a rule was broken."""
    message: dict[str, Any] = {"type": "websocket.close"}
    if reason:
        message |= {"code": _POLICY_CODE, "reason": reason}
    try:
        await ws.asgi_send(message)
    except (OSError, RuntimeError):
        pass
