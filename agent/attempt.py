"""One attempt with one transport, from the dialling to the end of what came of it.

Rules: runs in the link's thread, which sleeps on `signals`; what a connection reports comes with
that connection's name, and what an earlier one left behind is ignored.

Source: contract 1.1, 1.9.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.backoff import Backoff
from agent.clock import SigningClock, wall_ms
from agent.connect_auth import ServerAddress, signed_url
from agent.connection import Connection, Core, Signal
from agent.dial import Dialer
from agent.errors import LinkError
from agent.link_types import Hello, LastEnd, LinkSettings, LinkUp, StatusBoard, TransportName
from agent.outgoing import Outgoing, Plain
from agent.presence import Presence
from agent.transport import Transport
from wire import limits
from wire.connect import ConnectAuth, Refusal, auth_object
from wire.link import Ping
from workers.loop import Loop, now_s

if TYPE_CHECKING:
    from agent.log import Log

_END_TIMEOUT_S = 10.0
_GOODBYE_S = 2.0
_CHECK_S = 0.01

End = Refusal | LinkError
Signals = queue.SimpleQueue[tuple[Connection | None, Signal]]


@dataclass(frozen=True)
class Surroundings:
    """What every attempt of a link shares."""

    settings: LinkSettings
    address: ServerAddress
    loop: Loop
    core: Core
    outgoing: Outgoing
    log: Log
    backoff: Backoff
    clock: SigningClock
    board: StatusBoard
    signals: Signals


class Attempt:
    """See the module."""

    def __init__(self, around: Surroundings, name: TransportName) -> None:
        settings = around.settings
        self._around = around
        self._name = name
        self._dialer = Dialer(
            around.address, settings.tls, settings.proxies, settings.connect_timeout_s
        )
        self._presence = Presence(settings.heartbeat_s, settings.pong_timeout_s, now_s())
        self._connection = Connection(
            name,
            around.loop,
            around.core,
            around.outgoing,
            settings.features,
            self._presence,
            lambda signal: around.signals.put((self._connection, signal)),
        )
        self._transport = Transport(self._dialer, around.outgoing, self._connection)
        self._connection.allow = self._transport.allow
        self._is_up = False
        self._asked_s = 0.0

    def connect(self, auth: ConnectAuth) -> None:
        """Open the engine's connection and ask for the namespace.

        Raises:
            LinkError: why not.
        """
        around = self._around
        settings = around.settings
        around.outgoing.close()
        # A peer that answers one byte at a time would stretch every single timeout.
        guard = threading.Timer(settings.connect_timeout_s * 1.5, self._dialer.abort)
        guard.daemon = True
        guard.start()
        try:
            stamp_ms = around.clock.stamp_ms()
            url = signed_url(around.address, settings.client_id, settings.auth_token, stamp_ms)
            self._transport.connect(around.address, url, auth_object(auth), self._name)
            self._asked_s = now_s()
        finally:
            guard.cancel()

    def until_end(self, flush_s: Callable[[], float]) -> End:
        """Stay until the connection ends, or must; then clean up.

        Args:
            flush_s: asked how long to go on sending when the agent stops.
        """
        end = self._wait_for_reply() or self._keep()
        error = end if isinstance(end, LinkError) else LinkError(end.reason, "refused")
        if error.reason == "stopped":
            self._leave(flush_s())
        self._hang_up(error)
        self._around.outgoing.close()
        if self._is_up:
            self._around.loop.call_threadsafe(partial(self._around.core.on_down, error))
        return end

    # -- its life --------------------------------------------------------------------------------

    def _wait_for_reply(self) -> End | None:
        """Wait for the namespace; None when it is connected."""
        deadline_s = self._asked_s + limits.CONNECT_REPLY_TIMEOUT_S
        while (left_s := deadline_s - now_s()) > 0:
            signal = self._next(left_s)
            if isinstance(signal, LinkUp):
                self._came_up(signal)
                return None
            if isinstance(signal, Refusal | LinkError):
                return self._ended(signal)
            if signal is not None:
                self._said_hello(signal)
        return LinkError("no_connect_reply", "the server did not answer the CONNECT in 10 s")

    def _keep(self) -> End:
        """Look after the connection; return why it has ended, or must."""
        while True:
            signal = self._next(self._presence.wait_s(now_s()))
            if isinstance(signal, Refusal | LinkError):
                return self._ended(signal)
            if isinstance(signal, Hello):
                self._said_hello(signal)
            self._around.board.write(rtt_ms=self._presence.rtt_ms)
            if self._is_dead():
                timeout_s = self._around.settings.pong_timeout_s
                return LinkError("dead", f"nothing came in for {timeout_s:g} s")

    def _is_dead(self) -> bool:
        now = now_s()
        verdict = self._presence.look(now, self._around.outgoing.last_sent_s)
        if verdict == "ping":
            ts = wall_ms()
            self._presence.asked(ts, now)
            self._around.outgoing.first(Plain(Ping(ts=ts)))
        return verdict == "dead"

    def _came_up(self, up: LinkUp) -> None:
        around = self._around
        self._is_up = True
        self._presence.rtt_ms = (now_s() - self._asked_s) * 1000.0
        around.board.enter("up", wall_ms())
        around.board.write(
            transport=up.transport,
            sid=up.sid,
            rtt_ms=self._presence.rtt_ms,
            connects=around.board.read().connects + 1,
        )
        around.log.info("link is up", transport=up.transport, sid=up.sid)

    def _said_hello(self, hello: Hello) -> None:
        self._around.backoff.reset()
        self._around.board.write(features=hello.features)
        self._learn_time(hello.server_ts)

    def _ended(self, end: End) -> End:
        if isinstance(end, Refusal):
            self._learn_time(end.server_ts)
        return end

    def _learn_time(self, server_ts: float | None) -> None:
        """Believe the server's clock where its certificate was verified."""
        around = self._around
        is_verified = around.address.is_tls and not around.settings.tls.skip_verify
        if server_ts is None or not is_verified:
            return
        offset_ms = around.clock.learn(server_ts)
        if offset_ms and abs(offset_ms - around.board.read().clock_offset_ms) > 1000:
            sentence = "the system's clock is wrong; signatures use the server's time"
            around.log.warning(sentence, off_by_s=round(offset_ms / 1000))
        around.board.write(clock_offset_ms=offset_ms)

    # -- its end ---------------------------------------------------------------------------------

    def _leave(self, flush_s: float) -> None:
        """Send what is queued, then go in an orderly way."""
        deadline_s = now_s() + flush_s
        while self._is_up and now_s() < deadline_s and not self._around.outgoing.is_idle():
            if isinstance(self._next(_CHECK_S), LinkError):
                return
        self._transport.say_goodbye()
        self._wait_for_threads(_GOODBYE_S)

    def _hang_up(self, error: LinkError) -> None:
        self._connection.abandon()
        self._transport.close(error)
        if not self._wait_for_threads(_END_TIMEOUT_S):
            self._around.log.error("a connection's threads did not end")

    def _wait_for_threads(self, timeout_s: float) -> bool:
        deadline_s = now_s() + timeout_s
        while not self._transport.has_ended() and now_s() < deadline_s:
            self._next(_CHECK_S)
        return self._transport.has_ended()

    def _next(self, timeout_s: float) -> Signal | None:
        """Take the next signal, of this connection or of the core; None after `timeout_s`."""
        try:
            connection, signal = self._around.signals.get(timeout=max(0.001, timeout_s))
        except queue.Empty:
            return None
        return signal if connection in (None, self._connection) else None


def last_end(end: End, system_ms: int) -> LastEnd:
    """Describe an end for the log and `status`; `system_ms` is the clock that signatures use."""
    if isinstance(end, LinkError):
        return LastEnd(end.reason, str(end), wall_ms())
    detail = f"the server refused the link: {end.reason}"
    if end.retry_after_ms is not None:
        detail += f"; it asks to wait {end.retry_after_ms / 1000:g} s"
    if end.server_ts is not None:
        off_by_s = round((end.server_ts - system_ms) / 1000)
        detail += f"; clock off by {off_by_s} s" if end.reason == "auth_expired" else ""
    return LastEnd(end.reason, detail, wall_ms())
