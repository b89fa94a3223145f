"""What one connection's reports mean: answers given at once, messages handed to the core thread.

Rules: everything here runs in the connection's reader thread (`written`, `pong_written` and
`on_unsendable` in its writer's). Pings are answered here, whatever the core is busy with. Events
wait for the namespace's CONNECT reply, so that the core hears `up` first. While the core is behind
by BACKLOG_BYTES, or answers pile up unsent, nothing is read: TCP tells the server.

Source: contract 1.1, 1.2, 1.7, 1.9; architecture "Nobody waits on anybody".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from agent.confirmations import Confirmations
from agent.errors import LinkError, MalformedError
from agent.link_types import Hello, LinkUp, TransportName
from agent.outgoing import Ack, Outgoing, Plain
from agent.packets import Acknowledged, Event
from agent.presence import Presence
from wire import limits
from wire.connect import Refusal
from wire.errors import WireError
from wire.events import Direction, ToAgent, decode
from wire.features import agreed
from wire.link import HelloAck, Ping, Pong
from workers.loop import Loop, now_s

BACKLOG_BYTES = 4 * limits.MIB
MAX_ANSWERS = 1000
# What an event costs beside its text, so that a flood of tiny ones is bounded, too.
_EVENT_COST = 512
_ROOM_CHECK_S = 0.02


Signal = LinkUp | Hello | Refusal | LinkError


class Core(Protocol):
    """What a connection calls on the core thread."""

    def on_event(self, message: ToAgent) -> None: ...
    def on_bad_event(self, error: WireError) -> None: ...
    def on_unsendable(self, error: WireError) -> None: ...
    def on_up(self, up: LinkUp) -> None: ...
    def on_hello(self, hello: Hello) -> None: ...
    def on_written(self, ticket: int) -> None: ...
    def on_arrived(self, tickets: list[int]) -> None: ...
    def on_refused(self, ticket: int, reason: str) -> None: ...
    def on_down(self, error: LinkError) -> None: ...
    def on_revoked(self) -> None: ...


class Connection:
    """The listener of one transport; `allow` tells that what the peer may be sent.

    Args:
        name: of the transport.
        loop: the core thread's.
        core: what is called there.
        outgoing: the link's queue.
        features: what this side lists.
        presence: told of every sign of life.
        signal: tells the link's own thread; called from the reader.
    """

    def __init__(
        self,
        name: TransportName,
        loop: Loop,
        core: Core,
        outgoing: Outgoing,
        features: tuple[str, ...],
        presence: Presence,
        signal: Callable[[Signal], object],
    ) -> None:
        self._name = name
        self._loop = loop
        self._core = core
        self._outgoing = outgoing
        self._features = features
        self._presence = presence
        self._signal = signal
        self._confirmations = Confirmations()
        self._is_open = False
        self._early: list[Callable[[], object]] = []
        self._received = 0
        self._consumed = 0
        self._is_over = threading.Event()
        self.allow: Callable[[frozenset[str] | None], object] = _nothing

    def abandon(self) -> None:
        """Let a reader that waits for the core go on; from any thread."""
        self._is_over.set()

    # -- the reader's thread ---------------------------------------------------------------------

    def on_inbound(self) -> None:
        self._presence.came(now_s())

    def on_open(self, sid: str, max_payload: int | None) -> None:
        up = LinkUp(sid, self._name, max_payload)
        self._is_open = True
        self._outgoing.open()
        self._loop.call_threadsafe(partial(self._core.on_up, up))
        self._signal(up)
        early, self._early = self._early, []
        for report in early:
            self._loop.call_threadsafe(report)

    def on_refused(self, refusal: Refusal) -> None:
        self._signal(refusal)

    def on_closed(self, error: LinkError) -> None:
        self._signal(error)

    def on_event(self, event: Event, size: int) -> None:
        if event.ack_id is not None:
            self._outgoing.first(Ack(event.ack_id))
        try:
            message = decode(Direction.TO_AGENT, event.name, event.payload)
        except WireError as error:
            self._hand_over(partial(self._core.on_bad_event, error), size)
            return
        match message:
            case Ping():
                self._outgoing.first(Plain(Pong(ts=message.ts)))
            case Pong():
                self._presence.answered(message.ts, now_s())
            case HelloAck():
                self._on_hello(message)
                return
            case _:
                self._hand_over(partial(self._core.on_event, message), size)
                return
        self._wait_for_room()

    def on_malformed(self, error: MalformedError) -> None:
        bad = WireError("", "bad_request", str(error))
        self._hand_over(partial(self._core.on_bad_event, bad), 0)

    def on_acknowledged(self, ack: Acknowledged) -> None:
        reason = _refusal(ack.argument)
        if reason is None:
            report = partial(self._core.on_arrived, [ack.ack_id])
        else:
            report = partial(self._core.on_refused, ack.ack_id, reason)
        self._loop.call_threadsafe(report)

    def on_engine_ping(self) -> None:
        confirmed = self._confirmations.ping_came()
        if confirmed:
            self._loop.call_threadsafe(partial(self._core.on_arrived, confirmed))

    # -- the writer's thread ---------------------------------------------------------------------

    def written(self, ticket: int, *, wants_ack: bool) -> None:
        if not wants_ack:
            self._confirmations.written(ticket)
        self._loop.call_threadsafe(partial(self._core.on_written, ticket))

    def pong_written(self) -> None:
        self._confirmations.pong_written()

    def on_unsendable(self, error: WireError) -> None:
        self._loop.call_threadsafe(partial(self._core.on_unsendable, error))

    # -- inside ----------------------------------------------------------------------------------

    def _on_hello(self, message: HelloAck) -> None:
        features = agreed(self._features, message.features)
        hello = Hello(features, message.server_ts)
        self.allow(features)
        self._signal(hello)
        self._report(partial(self._core.on_hello, hello))

    def _hand_over(self, report: Callable[[], object], size: int) -> None:
        if not self._is_open and self._received > BACKLOG_BYTES:
            return  # before the CONNECT reply there is no link whose promises we could break
        cost = size + _EVENT_COST
        self._received += cost
        self._report(partial(self._consume, report, cost))
        self._wait_for_room()

    def _report(self, report: Callable[[], object]) -> None:
        if self._is_open:
            self._loop.call_threadsafe(report)
        else:
            self._early.append(report)

    def _consume(self, report: Callable[[], object], cost: int) -> None:
        """On the core thread: one report, and what it held of the backlog."""
        self._consumed += cost
        report()

    def _wait_for_room(self) -> None:
        if not self._is_open:
            return
        while self._is_crowded() and not self._is_over.wait(_ROOM_CHECK_S):
            pass

    def _is_crowded(self) -> bool:
        behind = self._received - self._consumed
        return behind > BACKLOG_BYTES or self._outgoing.answers_waiting() > MAX_ANSWERS


def _refusal(argument: bytes) -> str | None:
    """Read an acknowledgement that says no: `{"error": "<reason>"}`."""
    if not argument.startswith(b"{"):
        return None
    try:
        reason = msgspec.json.decode(argument).get("error")
    except (ValueError, RecursionError):
        return None
    return reason[:120] if isinstance(reason, str) and reason else None


def _nothing(_features: frozenset[str] | None) -> None:
    return
