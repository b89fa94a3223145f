"""The agent's link with nothing behind it: a real link, queue and outbox, and lists of what came.

Rule: the core's loop runs in a thread of its own, so that a test can wait for what it wants to see.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.backoff import Backoff
from agent.clock import SigningClock
from agent.errors import LinkError
from agent.link_types import Hello, LinkSettings, LinkStatus, LinkUp
from agent.live_link import LiveLink
from agent.outbox import Outbox
from agent.outgoing import Outgoing
from tests.doubles.hubs import Hub
from wire.connect import ConnectAuth, JobState
from wire.errors import WireError
from wire.events import ToAgent
from workers.loop import Loop

DEADLINE_S = 120.0
FEATURES = ("ack", "credit", "resume", "base64", "stream", "workers")


class LinkLog:
    """A log that is a list of (level, sentence, fields)."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        def write(sentence: str, *_more: Any, **fields: Any) -> None:
            self.records.append((level, sentence, fields))

        return write

    def of(self, sentence: str) -> list[dict[str, Any]]:
        return [fields for _, said, fields in self.records if said == sentence]


class LinkSide:
    """See the module. `events` holds what the core was told, in order.

    Args:
        server: a hub double, or a URL.
        directory: for the outbox.
        wait_s: the most that a wait between attempts lasts; None for the contract's.
        changes: other fields of LinkSettings.
    """

    def __init__(
        self,
        server: Hub | str,
        directory: Path,
        *,
        wait_s: float | None = 0.05,
        clock: SigningClock | None = None,
        **changes: Any,
    ) -> None:
        self.events: list[Any] = []
        self.bad: list[WireError] = []
        self.drained: dict[str, int] = {}
        self.jobs: tuple[JobState, ...] = ()
        self.log = LinkLog()
        self.loop = Loop()
        self.outgoing = Outgoing()
        self.outbox = Outbox(directory / "outbox.db", self.loop, self.log)  # type: ignore[arg-type]
        settings: dict[str, Any] = {
            "client_id": "agent-1",
            "auth_token": "a secret of the tests",
            "server_url": server if isinstance(server, str) else server.url,
            "engine_path": "/socket.io" if isinstance(server, str) else server.options.path,
            "features": FEATURES,
        }
        self.link = LiveLink(
            LinkSettings(**{**settings, **changes}),
            self.loop,
            self.outgoing,
            self.outbox,
            self,
            self._auth,
            self.log,  # type: ignore[arg-type]
            backoff=Backoff() if wait_s is None else _Short(wait_s),
            clock=clock,
        )
        self._thread = threading.Thread(target=self.loop.run, name="core", daemon=True)

    # -- what a test does ------------------------------------------------------------------------

    def start(self) -> Self:
        self.outbox.start()
        self.link.start()
        self._thread.start()
        return self

    def call(self, task: Callable[[], Any]) -> Any:
        """Run something on the core thread; return its result."""
        done: list[Any] = []
        self.loop.call_threadsafe(lambda: done.append(task()))
        self.until(lambda: done)
        return done[0]

    def until(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline_s, (self.status(), self.log.records[-5:])
            time.sleep(0.002)
        return found

    def until_up(self, times: int = 1) -> LinkUp:
        up: LinkUp = self.until(lambda: self.of(LinkUp)[times - 1 :])[0]
        # The core may hear of it before the link's own thread has put it on its board.
        self.until(lambda: self.status().connects >= times)
        return up

    def until_hello(self, times: int = 1) -> Hello:
        hello: Hello = self.until(lambda: self.of(Hello)[times - 1 :])[0]
        self.until_up(len(self.of(LinkUp)))
        return hello

    def until_down(self, times: int = 1) -> LinkError:
        return self.until(lambda: self.of(LinkError)[times - 1 :])[0]

    def until_refused(self, reason: str) -> str:
        """Wait until an attempt has ended for this reason; return the sentence."""

        def sentence() -> str | None:
            end = self.status().last_end
            return end.detail if end is not None and end.reason == reason else None

        return str(self.until(sentence))

    def of(self, kind: type) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]

    def status(self) -> LinkStatus:
        return self.link.status()

    def stop(self, flush_s: float = 0.0) -> None:
        self.link.stop(flush_s)
        assert self.link.join(DEADLINE_S)
        self.loop.call_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.turn(0)
        self.outbox.close()
        self.loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- LinkHandlers ----------------------------------------------------------------------------

    def on_event(self, message: ToAgent) -> None:
        self.events.append(message)

    def on_bad_event(self, error: WireError) -> None:
        self.bad.append(error)

    def on_up(self, up: LinkUp) -> None:
        self.events.append(up)

    def on_hello(self, hello: Hello) -> None:
        self.events.append(hello)

    def on_down(self, error: LinkError) -> None:
        self.events.append(error)

    def on_revoked(self) -> None:
        self.events.append("revoked")

    def on_drained(self, session: str, cost: int) -> None:
        self.drained[session] = self.drained.get(session, 0) + cost

    def _auth(self) -> ConnectAuth:
        return ConnectAuth(
            agent_version="1.2.3", boot_id="boot-1", features=FEATURES, jobs=self.jobs
        )


class _Short(Backoff):
    """Waits that are asked for stay; the row's own are short."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(lambda _low, _high: wait_s)
