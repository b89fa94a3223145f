"""A console as a program: the `/console` namespace, every event kept, sessions put together.

Rules: a session's output is put together by offset alone (`tests.doubles.screens.Screen`), and what
has come is acknowledged at once, as a console does that shows it; `shows` False shows nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from socketio.exceptions import BadNamespaceError

from hub.cli.live_socket import LiveSocket
from tests.doubles.screens import Screen

NAMESPACE = "/console"
DEADLINE_S = 120.0
OF_SESSIONS = (
    "shell_output", "shell_gap", "shell_closed", "shell_detached", "shell_resized", "shell_link",
)  # fmt: skip


class ConsoleSocket:
    """See the module."""

    def __init__(self, url: str, token: str) -> None:
        self.shows = True
        self.events: list[tuple[str, Any]] = []
        self.screens: dict[str, Screen] = {}
        self.is_up = False
        self._changed = threading.Condition()
        self._url, self._token = url, token
        self._socket: LiveSocket | None = None
        self.connect()

    def connect(self) -> None:
        """Connect, again perhaps: the screens stay."""
        if self._socket is not None:
            self._socket.hang_up()
        self._socket = LiveSocket()
        self._socket.on("*", self._on_event, namespace=NAMESPACE)
        self._socket.on("disconnect", self._on_gone, namespace=NAMESPACE)
        self._socket.connect(
            self._url,
            namespaces=[NAMESPACE],
            transports=["websocket"],
            auth={"token": self._token},
            wait_timeout=DEADLINE_S,
        )
        self.is_up = True

    def close(self) -> None:
        self._socket.disconnect()
        self._socket.hang_up()

    def emit(self, event: str, **payload: Any) -> None:
        self._socket.emit(event, payload, namespace=NAMESPACE)

    def call(self, event: str, **payload: Any) -> dict[str, Any]:
        """Send an event and return its acknowledgement."""
        reply = self._socket.call(event, payload, namespace=NAMESPACE, timeout=DEADLINE_S)
        return dict(reply or {})

    def open(self, asset_id: str, **more: Any) -> str:
        """Open a session."""
        reply = self.call("shell_open", asset_id=asset_id, **more)
        assert "error" not in reply, reply
        return str(reply["session"])

    def shell(self, asset_id: str) -> str:
        """Open a session that has said that it is ready, without echo or prompt."""
        session = self.open(asset_id)
        self.type(session, "PS1=; stty -echo; echo rea''dy\n")
        self.until_output(session, "ready\r\n")
        return session

    def type(self, session: str, text: str) -> None:
        self.emit("shell_input", session=session, data=text)

    def attach(self, session: str, event: str = "shell_attach", **more: Any) -> dict[str, Any]:
        """Go on with a session where its screen stands; an unknown one from its beginning."""
        screen = self.screens.get(session)
        offset = {"offset": screen.end} if screen is not None and screen.start is not None else {}
        return self.call(event, session=session, **offset, **more)

    def output(self, session: str) -> str:
        with self._changed:
            screen = self.screens.get(session)
            return "" if screen is None else screen.data.decode(errors="replace")

    def of(self, event: str, **fields: Any) -> list[Any]:
        """Return the payloads of an event that have these fields."""
        with self._changed:
            found = [payload for name, payload in self.events if name == event]
        return [one for one in found if all(one.get(key) == fields[key] for key in fields)]

    def until_output(self, session: str, text: str) -> str:
        return str(self.until(lambda: text in self.output(session) and self.output(session)))

    def until_event(self, event: str, **fields: Any) -> Any:
        return self.until(lambda: self.of(event, **fields))[0]

    def until(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """Wait until what came makes something true; fail when that is never."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not (found := condition()):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise AssertionError(f"never came; the last: {str(self.events[-6:])[-2000:]}")
                self._changed.wait(min(left_s, 0.5))
        return found

    def _on_event(self, event: str, payload: Any = None) -> None:
        with self._changed:
            self.events.append((event, payload))
            if event in OF_SESSIONS:
                self.screens.setdefault(payload["session"], Screen()).emit(event, payload)
            self._changed.notify_all()
        if event == "shell_output" and self.shows:
            screen = self.screens[payload["session"]]
            with contextlib.suppress(BadNamespaceError):  # the hub is gone already
                self.emit("shell_ack", session=payload["session"], offset=screen.end)

    def _on_gone(self, _reason: str = "") -> None:
        with self._changed:
            self.is_up = False
            self._changed.notify_all()


@contextlib.contextmanager
def console(url: str, token: str) -> Iterator[ConsoleSocket]:
    """A connected console, disconnected afterwards."""
    made = ConsoleSocket(url, token)
    try:
        yield made
    finally:
        made.close()
