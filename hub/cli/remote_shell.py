"""A session at the hub, seen from the command line: it goes on after any break of the connection.

Rules: a thread reads the socket and only queues what came (`news`); another one connects again
after a break and attaches behind the last byte that was shown. What is typed meanwhile is refused,
never kept. Source: docs/reference/console-events.rst.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hub.cli import exits
from hub.cli.client import NAMESPACE, Client, refused_event
from hub.errors import CliError

if TYPE_CHECKING:
    import socketio

ACK_STEP_BYTES = 16 << 10
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 3.0)
CALL_S = 20.0
PARTING_S = 3.0
_PACED_CHARS = 4096
_EVENTS = ("shell_output", "shell_gap", "shell_closed", "shell_detached", "shell_link", "dropped")
# What no new try will mend.
_HOPELESS = frozenset({"not_found", "forbidden", "unauthenticated", "has_writer", "session_ended"})


class RemoteShell:
    """One session.

    Args:
        wake: called, by any thread, when there is news.
    """

    def __init__(self, client: Client, wake: Callable[[], None]) -> None:
        self.news: deque[tuple[str, dict[str, Any]]] = deque()
        self.session = ""
        self.position = 0
        self.is_up = False
        """Connected, and the agent is linked: what is typed arrives."""
        self._client = client
        self._wake = wake
        self._socket: socketio.Client | None = None
        self._acked = 0
        self._event = "shell_attach"
        self._is_over = threading.Event()

    def open(self, asset_id: str, cols: int, rows: int, purpose: str) -> None:
        """Open a new session.

        Raises:
            CliError: the hub says no, or is not there.
        """
        self._socket = self._connect()
        reply = self._call("shell_open", asset_id=asset_id, cols=cols, rows=rows, purpose=purpose)
        self.session, self.is_up = str(reply["session"]), True

    def attach(self, session: str, *, read_only: bool = False) -> None:
        """Show a session that runs already; with `read_only`, type nothing into it.

        Raises:
            CliError: the hub says no, or is not there.
        """
        self._event = "shell_observe" if read_only else "shell_attach"
        self._socket = self._connect()
        take_over = {} if read_only else {"take_over": True}
        self.session = session
        reply = self._call(self._event, session=session, **take_over)
        self.position = self._acked = int(reply["offset"])
        self.is_up = bool(reply["up"])

    def bytes_of(self, payload: dict[str, Any]) -> bytes:
        """Return what of an output is new, and stand behind it."""
        data = payload["data"]
        raw = base64.b64decode(data) if payload.get("encoding") else data.encode()
        fresh: bytes = raw[max(0, self.position - payload["offset"]) :]
        self.position = max(self.position, payload["offset"] + len(raw))
        return fresh

    def shown(self, *, at_once: bool = False) -> None:
        """Acknowledge what has been shown, now or when it is enough."""
        if self.position - self._acked >= (1 if at_once else ACK_STEP_BYTES):
            self._acked = self.position
            self._emit("shell_ack", session=self.session, offset=self.position)

    def type(self, text: str) -> None:
        """Type; a pipe is read no faster than the hub takes it."""
        if len(text) < _PACED_CHARS:
            self._emit("shell_input", session=self.session, data=text)
            return
        with contextlib.suppress(CliError):
            self._call("shell_input", session=self.session, data=text)

    def resize(self, cols: int, rows: int) -> None:
        """Tell the terminal's size."""
        self._emit("shell_resize", session=self.session, cols=cols, rows=rows)

    def close(self) -> None:
        """Ask for the end of the session, as far as anybody hears it."""
        with contextlib.suppress(CliError):
            self._call("shell_close", session=self.session)

    def hang_up(self) -> None:
        """Disconnect for good, once everything that was typed has arrived."""
        self._is_over.set()
        if self._socket is None:
            return
        with contextlib.suppress(CliError):
            self._call_on(self._socket, "shell_detach", PARTING_S, session=self.session)
        self._socket.disconnect()

    # -- inside ----------------------------------------------------------------------------------

    def _connect(self) -> socketio.Client:
        made = self._client.socket()
        for event in _EVENTS:
            made.on(event, lambda payload, event=event: self._on(event, payload), NAMESPACE)
        made.on("disconnect", lambda *_: self._on_lost(made), NAMESPACE)
        return made

    def _on(self, event: str, payload: dict[str, Any]) -> None:
        if event == "dropped":
            self._tell("dropped", payload)
        elif payload.get("session") == self.session or not self.session:
            self._tell(event, payload)

    def _on_lost(self, lost: socketio.Client) -> None:
        if self._is_over.is_set() or lost is not self._socket:
            return
        self.is_up = False
        self._tell("lost", {})
        threading.Thread(target=self._come_back, args=[lost], daemon=True).start()

    def _come_back(self, lost: socketio.Client) -> None:
        lost.hang_up()
        number = 0
        while not self._is_over.wait(BACKOFF_S[min(number, len(BACKOFF_S) - 1)]):
            number += 1
            try:
                if self._reattach():
                    return
            except CliError as error:
                if error.reason in _HOPELESS or "unauthorized" in str(error):
                    self._tell("gone", {"code": error.reason, "detail": str(error)})
                    return

    def _reattach(self) -> bool:
        """Connect and attach; tell whether that held."""
        made = self._connect()
        self._tell("back", {})  # before what was missed, which comes ahead of the reply
        try:
            take_over = {"take_over": True} if self._event == "shell_attach" else {}
            reply = self._call_on(
                made, self._event, CALL_S, session=self.session, offset=self.position, **take_over
            )
        except BaseException:
            made.disconnect()
            raise
        self._socket = made
        if not made.connected:
            return False
        self.is_up = bool(reply["up"])
        self._wake()
        return True

    def _call(self, event: str, **payload: Any) -> dict[str, Any]:
        assert self._socket is not None
        return self._call_on(self._socket, event, CALL_S, **payload)

    def _call_on(
        self, on: socketio.Client, event: str, timeout_s: float, **payload: Any
    ) -> dict[str, Any]:
        import socketio

        try:
            reply = on.call(event, payload, namespace=NAMESPACE, timeout=timeout_s)
        except socketio.exceptions.SocketIOError as error:
            raise CliError("the hub does not answer", exits.UNAVAILABLE) from error
        refused = (reply or {}).get("error")
        if refused is not None:
            raise refused_event(refused)
        return dict(reply or {})

    def _emit(self, event: str, **payload: Any) -> None:
        import socketio

        assert self._socket is not None
        with contextlib.suppress(socketio.exceptions.SocketIOError):
            self._socket.emit(event, payload, namespace=NAMESPACE)

    def _tell(self, event: str, payload: dict[str, Any]) -> None:
        self.news.append((event, payload))
        self._wake()
