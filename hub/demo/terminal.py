"""One shell through the hub, as a program uses it: lines in, text out.

Rules: the same events as the console's terminal (docs/reference/console-events.rst).
"""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

from hub.cli.client import NAMESPACE, Client, refused_event
from hub.errors import CliError

WAIT_S = 30.0


class Shell:
    """A session on a machine, opened; `close` ends it."""

    def __init__(self, client: Client, asset_id: str) -> None:
        self._socket = client.socket()
        self._told = threading.Condition()
        self._text = ""
        self._socket.on("shell_output", self._output, namespace=NAMESPACE)
        self._socket.on("shell_link", self._link, namespace=NAMESPACE)
        self.is_up = True
        asked = {"asset_id": asset_id, "cols": 80, "rows": 24, "purpose": "demo"}
        self.session: str = self._ask("shell_open", asked)["session"]

    def answer(self, line: str, mark: str) -> str:
        """Type a line that prints `<mark>=<answer>=` and return the answer.

        Raises:
            CliError: it never came.
        """
        with self._told:
            start = len(self._text)
        self._ask("shell_input", {"session": self.session, "data": f"{line}\n"})
        wanted = f"{mark}="
        deadline_s = time.monotonic() + WAIT_S
        with self._told:
            while (found := _between(self._text[start:], wanted)) is None:
                if not self._told.wait(deadline_s - time.monotonic()):
                    raise CliError("the shell did not answer", 1)
        return found

    def until_link(self, is_up: bool) -> None:
        """Wait until the agent behind the session is gone, or back.

        Raises:
            CliError: neither came.
        """
        with self._told:
            if not self._told.wait_for(lambda: self.is_up is is_up, WAIT_S):
                raise CliError("the session never heard of its agent", 1)

    def close(self) -> None:
        """End the session."""
        self._ask("shell_close", {"session": self.session})
        self._socket.disconnect()

    def _ask(self, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        reply = self._socket.call(event, payload, namespace=NAMESPACE, timeout=WAIT_S) or {}
        if "error" in reply:
            raise refused_event(reply["error"])
        return dict(reply)

    def _output(self, payload: dict[str, Any]) -> None:
        data = payload["data"]
        if payload.get("encoding") == "base64":
            data = base64.b64decode(data).decode(errors="replace")
        with self._told:
            self._text += data
            self._told.notify_all()

    def _link(self, payload: dict[str, Any]) -> None:
        with self._told:
            self.is_up = bool(payload["up"])
            self._told.notify_all()


def _between(text: str, mark: str) -> str | None:
    """Return what stands between `mark` and the next `=`; the typed line itself is no answer."""
    for part in text.split(mark)[1:]:
        answer, found, _ = part.partition("=")
        if found and answer.isalnum():
            return answer
    return None
