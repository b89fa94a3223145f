"""The live link: connect, keep, lose, wait, connect again; in a thread of its own.

Rules: a fresh client, query and set of sockets for every attempt; WebSocket first, polling where
that looks blocked; the core thread hears `on_up`, `on_hello`, `on_event` … `on_down`, in this
order, by calls on its loop, and is waited for only for the CONNECT packet's `auth`, which it alone
knows.

Source: contract 1.1, 1.7, 1.9; fault cases A, C, J.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.attempt import Attempt, End, Signals, Surroundings, last_end
from agent.backoff import REVOKED, Backoff
from agent.clock import SigningClock, wall_ms
from agent.connect_auth import server_address
from agent.connection import Core
from agent.errors import LinkError
from agent.failures import may_poll_instead
from agent.link_types import LastEnd, LinkSettings, LinkState, LinkStatus, StatusBoard
from agent.outgoing import Outgoing
from wire.connect import ConnectAuth, Refusal
from workers.loop import Loop, now_s

if TYPE_CHECKING:
    from agent.log import Log

_AUTH_TIMEOUT_S = 10.0
_AUTH_CHECK_S = 0.1  # a core that is stopping answers no more
# Once a WebSocket has worked, a few failures are an outage, not a network that blocks them.
_FAILURES_BEFORE_POLLING = 3
# What a person must see who only looks at stderr (contract part 3, "Log").
_FATAL = frozenset({"tls_refused", "ca_file", "rejected"})


class Link:
    """See the module.

    Args:
        settings: fixed for the agent's life.
        loop: the core thread's.
        core: what is called on the core thread.
        auth: makes the CONNECT packet's `auth`; called on the core thread.
        outgoing: the queue that this link sends from.
        log: told of every attempt's end, of clocks and of certificates.
        backoff: a test passes its own, as it does `clock`.

    Raises:
        LinkError: `bad_url`.
    """

    def __init__(
        self,
        settings: LinkSettings,
        loop: Loop,
        core: Core,
        auth: Callable[[], ConnectAuth],
        outgoing: Outgoing,
        log: Log,
        backoff: Backoff | None = None,
        clock: SigningClock | None = None,
    ) -> None:
        self._auth = auth
        self._stopping = threading.Event()
        self._flush_s = 0.0
        self._websocket_failures = _FAILURES_BEFORE_POLLING
        self._around = Surroundings(
            settings=settings,
            address=server_address(settings.server_url, settings.engine_path),
            loop=loop,
            core=core,
            outgoing=outgoing,
            log=log,
            backoff=backoff or Backoff(),
            clock=clock or SigningClock(),
            board=StatusBoard(),
            signals=Signals(),
        )
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    # -- the core thread -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        if self._around.settings.tls.skip_verify:
            sentence = "certificates are not verified: transport.skipTlsVerify is set"
            self._around.log.warning(sentence)
        self._thread.start()

    def stop(self, flush_s: float = 0.0) -> None:
        """Leave: send what is queued, for at most `flush_s`, say goodbye, end. Does not wait."""
        self._flush_s = flush_s
        self._stopping.set()
        self._around.signals.put((None, LinkError("stopped", "the agent is stopping")))

    def join(self, timeout_s: float) -> bool:
        """Wait for the end after `stop`; False if it did not come in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def drop(self, sentence: str) -> None:
        """End this connection, and make another after the usual wait."""
        self._around.signals.put((None, LinkError("dropped", sentence)))

    def move(self, server_url: str) -> None:
        """Connect there from the next attempt on, which comes soon.

        Raises:
            LinkError: `bad_url`.
        """
        address = server_address(server_url, self._around.settings.engine_path)
        self._around = replace(self._around, address=address)
        self.drop("the server asks for this machine's certificate at another address")

    def status(self) -> LinkStatus:
        """Tell how the link is doing; from any thread."""
        return self._around.board.read()

    # -- the link's thread -----------------------------------------------------------------------

    def _run(self) -> None:
        board = self._around.board
        while not self._stopping.is_set():
            board.enter("connecting", wall_ms())
            end = self._live()
            board.write(transport=None, sid=None, features=None, last_end=self._told(end))
            if isinstance(end, Refusal) and end.reason == REVOKED:
                self._around.loop.call_threadsafe(self._around.core.on_revoked)
            if not self._stopping.is_set():
                self._rest(end)
        board.enter("stopped", wall_ms())

    def _live(self) -> End:
        """Make one attempt and keep what comes of it; return why it ended."""
        self._forget_signals()
        try:
            auth = self._ask_auth()
            attempt = self._connected(auth)
        except LinkError as error:
            return error
        return attempt.until_end(lambda: self._flush_s)

    def _connected(self, auth: ConnectAuth) -> Attempt:
        """Connect by WebSocket, or by polling where that may help.

        Raises:
            LinkError: why neither worked.
        """
        attempt = Attempt(self._around, "websocket")
        try:
            attempt.connect(auth)
        except LinkError as error:
            self._websocket_failures += 1
            if not self._may_poll(error):
                raise
            blocked = error
        else:
            self._websocket_failures = 0
            return attempt
        attempt = Attempt(self._around, "polling")
        try:
            attempt.connect(auth)
        except LinkError as error:
            raise LinkError(error.reason, f"{blocked}; by polling: {error}") from error
        return attempt

    def _may_poll(self, error: LinkError) -> bool:
        has_failed_enough = self._websocket_failures >= _FAILURES_BEFORE_POLLING
        return may_poll_instead(error) and has_failed_enough and not self._stopping.is_set()

    def _ask_auth(self) -> ConnectAuth:
        """Have the core make the `auth`.

        Raises:
            LinkError: `busy`; the core did not come to it.
        """
        answer: queue.SimpleQueue[ConnectAuth] = queue.SimpleQueue()
        self._around.loop.call_threadsafe(lambda: answer.put(self._auth()))
        deadline_s = now_s() + _AUTH_TIMEOUT_S
        while now_s() < deadline_s and not self._stopping.is_set():
            try:
                return answer.get(timeout=_AUTH_CHECK_S)
            except queue.Empty:
                continue
        raise LinkError("busy", "the agent's own core did not answer")

    def _rest(self, end: End) -> None:
        """Wait before the next attempt."""
        around = self._around
        is_unset = around.clock.is_unset()
        asked_ms = end.retry_after_ms if isinstance(end, Refusal) else None
        wait_s = around.backoff.next_s(end.reason, asked_ms, is_clock_unset=is_unset)
        state: LinkState = "clock_unset" if is_unset else "waiting"
        around.board.enter(state, wall_ms(), now_s() + wait_s)
        told = self._told(end)
        tell = around.log.fatal if _is_for_a_person(end) else around.log.warning
        tell("link is down", reason=told.reason, detail=told.detail, next_in_s=round(wait_s, 1))
        self._stopping.wait(wait_s)

    def _told(self, end: End) -> LastEnd:
        return last_end(end, self._around.clock.system_ms())

    def _forget_signals(self) -> None:
        """Drop what an earlier connection left behind, or a `drop` that met none."""
        while not self._around.signals.empty():
            self._around.signals.get_nowait()


def _is_for_a_person(end: End) -> bool:
    """A server that refuses us by name, and does not just ask us to come back later."""
    if isinstance(end, Refusal):
        return end.retry_after_ms is None
    return end.reason in _FATAL
