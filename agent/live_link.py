"""The core thread's side of the link: brings link, queue and outbox together.

Rules: core thread only, save `_on_drained` (the link's writer). A server that has not said hello
5 s after the CONNECT reply is foreign, and the outbox is flushed all the same.

Source: contract 1.1, 1.7.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.backoff import Backoff
from agent.clock import SigningClock
from agent.errors import LinkError
from agent.link import Link
from agent.link_types import Hello, LinkSettings, LinkStatus, LinkUp
from agent.outbox import Outbox
from agent.outgoing import Outgoing
from wire import limits
from wire.connect import ConnectAuth
from wire.errors import WireError
from wire.events import ToAgent
from workers.loop import Loop, Timer

if TYPE_CHECKING:
    from agent.log import Log


class LinkHandlers(Protocol):
    """What the router does with a link; all on the core thread."""

    def on_event(self, message: ToAgent) -> None: ...
    def on_bad_event(self, error: WireError) -> None: ...
    def on_up(self, up: LinkUp) -> None: ...
    def on_hello(self, hello: Hello) -> None: ...
    def on_down(self, error: LinkError) -> None: ...
    def on_revoked(self) -> None: ...
    def on_drained(self, session: str, cost: int) -> None: ...


class LiveLink:
    """See the module.

    Args:
        settings: the link's.
        loop: the core thread's.
        outgoing: what the families put into; its `on_drained` is taken.
        outbox: started by its owner.
        handlers: what is told of the link's life and of what comes in.
        auth: makes the CONNECT packet's `auth`.
        log: the agent's.
        backoff: a test passes its own, as it does `clock`.
    """

    def __init__(
        self,
        settings: LinkSettings,
        loop: Loop,
        outgoing: Outgoing,
        outbox: Outbox,
        handlers: LinkHandlers,
        auth: Callable[[], ConnectAuth],
        log: Log,
        backoff: Backoff | None = None,
        clock: SigningClock | None = None,
    ) -> None:
        self._loop = loop
        self._outbox = outbox
        self._handlers = handlers
        self._log = log
        self._up: LinkUp | None = None
        self._features: frozenset[str] | None = None
        self._silence: Timer | None = None
        self._drained: dict[str, int] = {}
        self._drained_lock = threading.Lock()
        self._outgoing = outgoing
        outgoing.on_drained = self._on_drained
        self._link = Link(settings, loop, self, auth, self._outgoing, log, backoff, clock)

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    def stop(self, flush_s: float = 0.0) -> None:
        """Leave after at most `flush_s` of sending; `join` waits for it."""
        self._link.stop(flush_s)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end after `stop`; the loop need not run for it."""
        return self._link.join(timeout_s)

    def drop(self, sentence: str) -> None:
        """End this connection and make another."""
        self._link.drop(sentence)

    def move(self, server_url: str) -> None:
        """End this connection and make the next one there."""
        self._link.move(server_url)

    def status(self) -> LinkStatus:
        return self._link.status()

    @property
    def event_limit(self) -> int:
        """The most that one event may measure on this link, in bytes."""
        return limits.event_limit(self._up.max_payload if self._up is not None else None)

    # -- the connection, by calls on the core thread ---------------------------------------------

    def on_event(self, message: ToAgent) -> None:
        self._handlers.on_event(message)

    def on_bad_event(self, error: WireError) -> None:
        self._handlers.on_bad_event(error)

    def on_unsendable(self, error: WireError) -> None:
        self._log.error("event cannot be sent", event=error.event, why=error.detail)

    def on_up(self, up: LinkUp) -> None:
        self._up = up
        self._features = None
        self._silence = self._loop.call_later(limits.NO_HELLO_FLUSH_S, self._on_silence)
        self._handlers.on_up(up)

    def on_hello(self, hello: Hello) -> None:
        self._stop_waiting()
        self._features = hello.features
        self._handlers.on_hello(hello)
        self._settle()

    def on_written(self, ticket: int) -> None:
        self._outbox.on_written(ticket)

    def on_arrived(self, tickets: list[int]) -> None:
        self._outbox.on_arrived(tickets)

    def on_refused(self, ticket: int, reason: str) -> None:
        self._outbox.on_refused(ticket, reason)

    def on_down(self, error: LinkError) -> None:
        self._stop_waiting()
        self._up = None
        self._features = None
        with self._drained_lock:
            self._drained.clear()
        self._outbox.on_down(error)
        self._handlers.on_down(error)

    def on_revoked(self) -> None:
        self._handlers.on_revoked()

    # -- inside ----------------------------------------------------------------------------------

    def _on_silence(self) -> None:
        self._silence = None
        self._settle()

    def _settle(self) -> None:
        self._outbox.on_settled(self._outgoing, self._features, self.event_limit)

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _on_drained(self, session: str, cost: int) -> None:
        """From the writer's thread: gather, and tell the core once."""
        with self._drained_lock:
            is_first = not self._drained
            self._drained[session] = self._drained.get(session, 0) + cost
        if is_first:
            self._loop.call_threadsafe(self._tell_drained)

    def _tell_drained(self) -> None:
        with self._drained_lock:
            drained, self._drained = self._drained, {}
        for session, cost in drained.items():
            self._handlers.on_drained(session, cost)
