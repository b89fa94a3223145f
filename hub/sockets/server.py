"""The Socket.IO server: namespaces over engine sockets, each packet handled in its order.

Rules: a namespace that is not listed is refused; an event named like one of the library's own
(`connect`, `disconnect`) closes the socket before anybody acts on it; an event's payload goes to
its namespace as the JSON text that came. `greet` runs when the CONNECT reply has been queued.

Source: architecture "python-socketio, what it does not say on the tin"; fault cases A, D.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

import socketio
import structlog
from socketio.exceptions import ConnectionRefusedError as RefusedError

from hub.errors import ProtocolError, RefusalError
from hub.settings import HubSettings
from hub.sockets import engine, packets
from hub.sockets.engine_socket import EngineSocket
from wire.connect import refusal_object

PROTOCOL_VIOLATION = "protocol_violation"
_RESERVED = frozenset({"connect", "connect_error", "disconnect", "disconnecting"})
_log = structlog.get_logger()


class Peer:
    """One socket in one namespace."""

    __slots__ = ("namespace", "sid", "socket")

    def __init__(self, sid: str, socket: EngineSocket, namespace: str) -> None:
        self.sid = sid
        self.socket = socket
        self.namespace = namespace

    @property
    def address(self) -> str:
        return self.socket.address

    def emit(self, name: str, payload: bytes) -> None:
        """Queue an event; `payload` is JSON."""
        self.socket.put_text(packets.event_text(self.namespace, name, payload))

    def acknowledge(self, ack_id: int, argument: bytes | None = None) -> None:
        """Queue an acknowledgement."""
        self.socket.put_text(packets.ack_text(self.namespace, ack_id, argument))

    async def close(self, reason: str) -> None:
        """End the socket, after what is queued; the namespace hears `reason`."""
        self.socket.put_text(packets.disconnect_text(self.namespace))
        self.socket.end_reason = reason
        await self.socket.close(wait=False, reason=reason)


class Namespace(Protocol):
    """What the server asks of a namespace. Nothing here may block."""

    name: str

    async def admit(self, peer: Peer, environ: dict[str, Any], auth: object) -> None:
        """Let a peer in, or raise `RefusalError`."""

    async def greet(self, peer: Peer) -> None:
        """The peer is in, and has been told."""

    async def on_event(self, peer: Peer, event: packets.Event, ack_id: int | None) -> None:
        """An event of a peer that is in; `ProtocolError` closes its socket."""

    async def on_violation(self, peer: Peer, name: str) -> None:
        """A peer forged one of the library's own events; its socket is closed after this."""

    async def on_gone(self, peer: Peer, reason: str) -> None:
        """A peer that was in is gone."""


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """See the module."""

    eio: engine.Engine

    def __init__(self, settings: HubSettings, namespaces: list[Namespace]) -> None:
        super().__init__(
            async_mode="asgi",
            async_handlers=False,
            namespaces=[one.name for one in namespaces],
            transports=list(settings.transports),
            ping_interval=settings.ping_interval_s,
            ping_timeout=engine.PING_TIMEOUT_S,
            max_http_buffer_size=engine.MAX_PAYLOAD_BYTES,
            cors_allowed_origins=[],
            logger=_quiet("socketio"),
            engineio_logger=_quiet("engineio"),
        )
        self._served = {one.name: one for one in namespaces}
        self._peers: dict[str, dict[str, Peer]] = {}
        self.eio.on_text = self._on_text
        for name in self._served:
            self.on("connect", self._connecting(name), namespace=name)
            self.on("disconnect", self._disconnecting(name), namespace=name)

    def _engineio_server_class(self) -> type[engine.Engine]:
        return engine.Engine

    # -- packets ---------------------------------------------------------------------------------

    async def _on_text(self, socket: EngineSocket, text: str) -> None:
        if socket.attachments_due:
            raise ProtocolError("text where an attachment was announced")
        packet = packets.read(text)
        peer = self._peers.get(socket.sid, {}).get(packet.namespace)
        match packet.kind:
            case packets.CONNECT:
                await self._join(socket, packet)
            case packets.DISCONNECT:
                await self._handle_disconnect(
                    socket.sid, packet.namespace, self.reason.CLIENT_DISCONNECT
                )
            case packets.ACK:
                pass
            case _ if peer is None:
                raise ProtocolError("a packet for a namespace that was not joined")
            case packets.EVENT:
                await self._on_event(peer, packet)
            case _:
                _await_attachments(socket, packet)

    async def _on_event(self, peer: Peer, packet: packets.Packet) -> None:
        event = packets.event(packet)
        namespace = self._served[peer.namespace]
        if event.name in _RESERVED:
            await namespace.on_violation(peer, event.name)
            await peer.socket.fail(PROTOCOL_VIOLATION, f"an event named {event.name}")
            return
        try:
            await namespace.on_event(peer, event, packet.ack_id)
        except ProtocolError:
            raise
        except Exception:  # noqa: BLE001  (it is told; the peer stays or is refused)
            _log.exception("an event was not handled", namespace=peer.namespace)

    # -- joining and leaving ---------------------------------------------------------------------

    async def _join(self, socket: EngineSocket, packet: packets.Packet) -> None:
        auth = packets.auth(packet)
        await self._handle_connect(socket.sid, packet.namespace, auth)
        peer = self._peers.get(socket.sid, {}).get(packet.namespace)
        if peer is None:
            return
        if socket.closed:  # it went while we looked at it
            await self._handle_disconnect(socket.sid, packet.namespace, self.reason.TRANSPORT_CLOSE)
            return
        socket.joined()
        await self._served[packet.namespace].greet(peer)

    def _connecting(self, name: str) -> Any:
        async def connect(sid: str, environ: dict[str, Any], auth: object = None) -> None:
            eio_sid = self.manager.eio_sid_from_sid(sid, name)
            peer = Peer(sid, self.eio.sockets[eio_sid], name)
            try:
                await self._served[name].admit(peer, environ, auth)
            except RefusalError as error:
                told = refusal_object(error.refusal)
                raise RefusedError(told["message"], told["data"]) from None
            except Exception:  # noqa: BLE001  (it is told; the peer stays or is refused)
                _log.exception("a peer could not be admitted", namespace=name)
                raise RefusedError("unavailable") from None
            self._peers.setdefault(eio_sid, {})[name] = peer

        return connect

    def _disconnecting(self, name: str) -> Any:
        async def disconnect(sid: str, reason: str) -> None:
            eio_sid = self.manager.eio_sid_from_sid(sid, name)
            joined = self._peers.get(eio_sid, {})
            peer = joined.pop(name, None)
            if not joined:
                self._peers.pop(eio_sid, None)
            if peer is not None:
                await self._served[name].on_gone(peer, reason)

        return disconnect


def _await_attachments(socket: EngineSocket, packet: packets.Packet) -> None:
    """Let the bytes of an event pass that nobody reads: no event of ours has any."""
    socket.attachments_due = packet.attachments
    socket.attachments_by_s = time.monotonic() + engine.ATTACHMENTS_S
    socket.server.complaints.tell(socket.sid, "bad_request", detail="bytes", address=socket.address)


def _quiet(name: str) -> Any:
    """Return a logger that says errors alone: the libraries print queries at `info`."""
    logger = logging.getLogger(f"hub.{name}")
    logger.setLevel(logging.ERROR)
    return logger
