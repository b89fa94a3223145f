"""One connection of the live link: python-socketio's client on our engine.

Rules: a `Transport` serves one attempt with one of the two transports. Events and acknowledgements
of our namespace are read by agent/packets.py, the rest by the library; an event that is named like
one of the library's own (`connect`, `disconnect`) is an event like any other.

Source: contract 1.1; architecture "python-socketio, what it does not say on the tin".
"""

from __future__ import annotations

from typing import Any

from agent import packets
from agent.connect_auth import NAMESPACE, ServerAddress
from agent.dial import Dialer
from agent.engine import Engine, Listener
from agent.errors import LinkError, MalformedError
from agent.failures import failure_of
from agent.link_types import TransportName
from agent.outgoing import Outgoing
from agent.socketio_client import SocketioClient, mute
from wire.connect import read_refusal


class Transport:
    """One attempt with one of the two transports."""

    def __init__(self, dialer: Dialer, outgoing: Outgoing, listener: Listener) -> None:
        self._dialer = dialer
        self._dialer = dialer
        self._client = _Client(dialer, outgoing, listener)

    def connect(
        self, address: ServerAddress, url: str, auth: dict[str, Any], name: TransportName
    ) -> None:
        """Open the engine's connection and ask for the namespace; the answer is the listener's.

        Raises:
            LinkError: why not.
        """
        engine = self._client.eio
        try:
            engine.prepare(name)
            self._client.connect(
                url,
                auth=auth,
                transports=[name],
                namespaces=[NAMESPACE],
                socketio_path=address.path,
                wait=False,
            )
        except Exception as error:
            engine.hang_up()
            self._dialer.close()
            raise failure_of(error) from error
        if engine.read_loop_task is None:
            raise LinkError("closed", "the connection ended at once")

    def allow(self, features: frozenset[str] | None) -> None:
        """Say what the peer may be sent; None for a foreign one."""
        self._client.eio.features = features

    def close(self, error: LinkError) -> None:
        """End the connection now; `on_closed` gets `error` unless it had ended by itself."""
        self._client.eio.fail(error)
        self._client.eio.hang_up()

    def has_ended(self) -> bool:
        """Have both threads of the connection gone?"""
        return bool(self._client.eio.has_ended)

    def say_goodbye(self) -> None:
        """Let the writer leave the namespace and close, after what it has in hand."""
        self._client.eio.say_goodbye()


class _Client(SocketioClient):  # type: ignore[misc]  # the library is untyped
    """Socket.IO: our namespace's events by our own reading, the rest by the library's."""

    def __init__(self, dialer: Dialer, outgoing: Outgoing, listener: Listener) -> None:
        self._listener = listener
        super().__init__(
            reconnection=False,
            handle_sigint=False,
            logger=mute,
            engineio_logger=mute,
            dialer=dialer,
            outgoing=outgoing,
            listener=listener,
        )

    def _engineio_client_class(self) -> type:
        return Engine

    def _handle_eio_message(self, data: str | bytes) -> None:
        if not isinstance(data, str):
            return  # an attachment: its event has been refused
        try:
            packet = packets.read(data)
        except MalformedError as error:
            self._listener.on_malformed(error)
            return
        if isinstance(packet, packets.Event):
            self._listener.on_event(packet, len(data))
        elif packet is not None:
            self._listener.on_acknowledged(packet)
        elif data.startswith(packets.DISCONNECT):
            self.eio.fail(LinkError("server_disconnect", "the server ended the link"))
            self.eio.hang_up()
        else:
            self._library_reads(data)

    def _library_reads(self, data: str) -> None:
        try:
            super()._handle_eio_message(data)
        except Exception as error:  # noqa: BLE001  (whatever a server sends, the reader lives)
            self._listener.on_malformed(MalformedError(type(error).__name__))

    def _handle_connect(self, namespace: str | None, data: Any) -> None:
        if namespace != NAMESPACE or namespace in self.namespaces:
            return
        sid = data.get("sid") if isinstance(data, dict) else None
        self.namespaces[namespace] = sid
        self._listener.on_open(str(sid or self.eio.sid), self.eio.max_payload)

    def _handle_error(self, _namespace: str | None, data: Any) -> None:
        self._listener.on_refused(read_refusal(data))

    def _trigger_event(self, event: str, namespace: str, *args: Any) -> None:
        """Nothing is registered with the library: an event of any name is only a packet."""
