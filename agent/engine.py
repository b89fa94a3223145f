"""Engine.IO's client with our sockets, our queue and our writer.

What differs from the library, and why: a message is handled in the thread that read it (a thread
per message reorders); the writer takes from the fair queue itself, so that TCP's pressure is the
only queue behind that one; sockets come from agent/dial.py for both transports; the first reason
of an end is kept.

Rules: an engine serves one attempt. `Listener` is called in the reader's thread, save `written`,
`pong_written` and `on_unsendable` (the writer's); `on_closed` comes once, after both have ended.

Source: Engine.IO protocol 4; architecture "python-socketio, what it does not say on the tin".
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Any, Protocol

import msgspec

from agent import packets
from agent.dial import Dialer
from agent.engine_socket import EngineSocket
from agent.errors import LinkError, MalformedError
from agent.express import MAX_BYTES, has_room, may_go_express
from agent.failures import failure_of, http_failure
from agent.link_types import TransportName
from agent.outgoing import Ack, Data, EnginePacket, Final, Item, Outgoing
from agent.polling import Answer, PollingSession
from agent.socketio_client import EngineClient, connected_clients, engine_packet, websocket
from wire import limits
from wire.connect import Refusal
from wire.errors import WireError
from wire.peers import for_peer
from wire.shorten import encode_within

_POST_TIMEOUT_S = 30.0
# python-engineio's server refuses a POST of more.
_MAX_POSTED_PACKETS = 16
_SEPARATOR = b"\x1e"


class Listener(Protocol):
    """What one connection reports."""

    def on_open(self, sid: str, max_payload: int | None) -> None: ...
    def on_refused(self, refusal: Refusal) -> None: ...
    def on_event(self, event: packets.Event, size: int) -> None: ...
    def on_malformed(self, error: MalformedError) -> None: ...
    def on_acknowledged(self, ack: packets.Acknowledged) -> None: ...
    def on_inbound(self) -> None: ...
    def on_engine_ping(self) -> None: ...
    def on_unsendable(self, error: WireError) -> None: ...
    def on_closed(self, error: LinkError) -> None: ...
    def written(self, ticket: int, *, wants_ack: bool) -> None: ...
    def pong_written(self) -> None: ...


class Engine(EngineClient):  # type: ignore[misc]  # the library is untyped
    """Engine.IO: the library's handshake and read loops, our sockets, queue and writer."""

    def __init__(
        self, *, dialer: Dialer, outgoing: Outgoing, listener: Listener, **options: Any
    ) -> None:
        self._dialer = dialer
        self._outgoing = outgoing
        self._listener = listener
        self._session = PollingSession(dialer.dial)
        self._error: LinkError | None = None
        self.features: frozenset[str] | None = None
        self.max_payload: int | None = None
        self.has_ended = False
        super().__init__(**options)

    def prepare(self, name: TransportName) -> None:
        """Dial, for the transport that needs the socket beforehand."""
        if name == "websocket":
            sock = self._dialer.dial()
            # A network that swallows upgrades must leave time for polling.
            sock.settimeout(self._dialer.remaining_s() / 2)
            self.websocket_extra_options = {
                "socket": sock,
                "class_": self._web_socket,
                "skip_utf8_validation": True,
                "redirect_limit": 0,
                "suppress_origin": True,
            }

    def fail(self, error: LinkError) -> None:
        """Keep the first reason for the end."""
        self._error = self._error or error

    def hang_up(self) -> None:
        """End both loops without another word."""
        self.state = "disconnecting"
        self._outgoing.engine(EnginePacket(None))
        self._dialer.abort()
        self._forget()

    def say_goodbye(self) -> None:
        self.fail(LinkError("stopped", "the agent ended the link"))
        self._outgoing.engine(EnginePacket("4" + packets.DISCONNECT))
        self._outgoing.engine(EnginePacket(str(engine_packet.CLOSE)))
        self._outgoing.engine(EnginePacket(None))

    # -- what the library calls ------------------------------------------------------------------

    def create_queue(self, *_args: Any, **_kwargs: Any) -> _EngineQueue:
        return _EngineQueue(self._outgoing, self._dialer)

    def disconnect(self, abort: bool = False, reason: str | None = None) -> None:
        self.fail(LinkError("closed", "the connection was closed"))
        self.hang_up()

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> threading.Thread:
        name = "link-write" if target == self._write_loop else "link-read"
        thread = threading.Thread(target=target, args=args, kwargs=kwargs, name=name, daemon=True)
        thread.start()
        return thread

    def _trigger_event(self, event: str, *args: Any, **_kwargs: Any) -> Any:
        handler = self.handlers.get(event)
        return handler(*args) if handler is not None else None

    def _receive_packet(self, packet: Any) -> None:
        self._listener.on_inbound()
        if packet.packet_type == engine_packet.MESSAGE:
            self._trigger_event("message", packet.data)
        elif packet.packet_type == engine_packet.PING:
            self._listener.on_engine_ping()
            self._send_packet(engine_packet.Packet(engine_packet.PONG, packet.data))
        elif packet.packet_type == engine_packet.CLOSE:
            self.fail(LinkError("server_closed", "the server closed the connection"))
            self.hang_up()

    def _send_request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: str | None = None,
        timeout: float | None = None,
    ) -> Answer | str:
        is_opening = self.state != "connected"
        wait_s = self._dialer.remaining_s() if is_opening else timeout or _POST_TIMEOUT_S
        try:
            answer = self._session.request(method, url, headers or {}, body, wait_s)
            if is_opening:
                self._note_opening(answer)
            elif not 200 <= answer.status_code < 300:
                raise http_failure(answer.status_code, answer.content, is_html=answer.is_html)
        except LinkError as error:
            self.fail(error)
            if is_opening:
                raise
            return str(error)
        return answer

    def _note_opening(self, answer: Answer) -> None:
        if not 200 <= answer.status_code < 300 or answer.is_html:
            raise http_failure(answer.status_code, answer.content, is_html=answer.is_html)
        self._note_open_packet(answer.content.split(_SEPARATOR, 1)[0])

    def _read_loop_websocket(self) -> None:
        self._read(super()._read_loop_websocket)

    def _read_loop_polling(self) -> None:
        self._read(super()._read_loop_polling)

    def _read(self, loop: Any) -> None:
        try:
            loop()
        except Exception as error:  # noqa: BLE001  (a reader that dies must still be reported)
            self.fail(failure_of(error))
        finally:
            self.hang_up()
            writer = self.write_loop_task
            if writer is not None:
                writer.join()
            self._dialer.close()
            self.has_ended = True
            closed = LinkError("closed", "the connection was closed")
            self._listener.on_closed(self._error or closed)

    def _write_loop(self) -> None:
        write = self._post if self.current_transport == "polling" else self._send
        if write == self._send and may_go_express(self.ws.sock):
            self._outgoing.use_express(self._express)
        try:
            while write():
                pass
        except Exception as error:  # noqa: BLE001  (a writer that dies must still be reported)
            self.fail(failure_of(error))
        finally:
            self.write_loop_task = None
            self.state = "disconnecting"
            self._dialer.abort()

    # -- the writer ------------------------------------------------------------------------------

    def _send(self) -> bool:
        """Write the next item to the WebSocket; False when it was the last."""
        item = self._outgoing.take()
        if item is None:
            return True
        if isinstance(item, EnginePacket) and item.text is None:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                self.ws.send_close()
            return False
        text = self._encode(item)
        if text is not None:
            self.ws.send(text)
        self._outgoing.sent(item)
        return True

    def _post(self) -> bool:
        """POST what waits, as much as one body may hold; False after the last."""
        first = self._outgoing.take()
        if first is None:
            return True
        items, body, is_last = self._batch(first)
        if body:
            answer = self._send_request(
                "POST",
                self.base_url,
                headers={"Content-Type": "text/plain"},
                body=_SEPARATOR.join(body).decode(),
                timeout=_POST_TIMEOUT_S,
            )
            if isinstance(answer, str):
                return False
        for item in items:
            self._outgoing.sent(item)
        return not is_last

    def _batch(self, first: Item) -> tuple[list[Item], list[bytes], bool]:
        room = (self.max_payload or limits.MAX_EVENT_BYTES) - limits.event_limit(self.max_payload)
        items: list[Item] = []
        body: list[bytes] = []
        size = 0
        item: Item | None = first
        while item is not None:
            if isinstance(item, EnginePacket) and item.text is None:
                return items, body, True
            text = self._encode(item)
            items.append(item)
            if text is not None:
                body.append(text)
                size += len(text) + 1
            # The next one may be as large as an event can be, and cannot be put back.
            is_full = size > room or len(body) >= _MAX_POSTED_PACKETS
            item = None if is_full else self._outgoing.take(timeout_s=0)
        return items, body, False

    def _encode(self, item: Item) -> bytes | None:
        """Write one item as Engine.IO text; None for what this peer is not sent."""
        if isinstance(item, EnginePacket):
            if item.is_pong:
                self._listener.pong_written()
            return item.text if isinstance(item.text, bytes) else (item.text or "").encode()
        if isinstance(item, Ack):
            return packets.ack_packet(item.ack_id)
        if isinstance(item, Final):
            self._listener.written(item.ticket, wants_ack=item.wants_ack)
            ack_id = item.ticket if item.wants_ack else None
            return packets.event_packet(item.name, item.payload, ack_id)
        message = for_peer(item.message, self.features)
        if message is None:
            return None
        try:
            name, payload = encode_within(message, limits.event_limit(self.max_payload))
        except WireError as error:
            self._listener.on_unsendable(error)
            return None
        return packets.event_packet(name, payload)

    def _express(self, item: Item) -> bool:
        """Write an item in the core's thread if the system takes it at once; else say no."""
        if isinstance(item, Data) and item.cost > MAX_BYTES:
            return False
        text = self._encode(item)
        if text is None:
            return True
        try:
            if not has_room(self.ws.sock, len(text)):
                return False
            self.ws.send(text)
        except (OSError, websocket.WebSocketException) as error:
            self.fail(failure_of(error))
            self.hang_up()
        return True

    def _web_socket(self, **options: Any) -> EngineSocket:
        return EngineSocket(self._note_open_packet, self.fail, **options)

    def _note_open_packet(self, packet: bytes) -> None:
        self.max_payload = _max_payload(packet)

    def _forget(self) -> None:
        with contextlib.suppress(ValueError):
            connected_clients.remove(self)


class _EngineQueue:
    """What the library takes for its queue of packets: ours."""

    def __init__(self, outgoing: Outgoing, dialer: Dialer) -> None:
        self._outgoing = outgoing
        self._dialer = dialer

    def put(self, packet: Any) -> None:
        if packet is None:
            self._outgoing.engine(EnginePacket(None))
            self._dialer.abort()
            return
        is_pong = packet.packet_type == engine_packet.PONG
        self._outgoing.engine(EnginePacket(packet.encode(), is_pong))

    def get_nowait(self) -> Any:
        raise queue.Empty

    def task_done(self) -> None:
        """Nobody counts."""


def _max_payload(packet: bytes) -> int | None:
    """Read `maxPayload` from the engine's open packet; None where it tells none."""
    try:
        told = msgspec.json.decode(packet[1:])["maxPayload"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else None
