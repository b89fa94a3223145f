"""Follow one command from a terminal: its output as it comes, its end, over lost connections.

Rules: output is written in the order of its offsets and told to be taken once it is written; what
comes twice is written once, and what is missing is said. A connection that is lost is made again
for `PATIENCE_S`; the command's key makes asking twice harmless. What was not shown live (a foreign
agent streams nothing) comes out of the result.
"""

from __future__ import annotations

import base64
import queue
import sys
import time
import uuid
from typing import Any

from hub.cli import exits, output
from hub.cli.client import NAMESPACE, Client
from hub.errors import CliError

PATIENCE_S = 120.0
CALL_S = 30.0
LOOK_S = 0.2
WAITING_NOTE_S = 1.0
OPEN = ("queued", "sent", "running")
Json = dict[str, Any]


class Following:
    """One command.

    Args:
        request: the body of `POST /api/v1/agents/{id}/admin`.
        is_silent: print nothing; the caller prints the job.
    """

    def __init__(
        self, client: Client, asset_id: str, request: Json, *, is_silent: bool = False
    ) -> None:
        self._client = client
        self._start: Json = {"asset_id": asset_id, "request": request, "key": uuid.uuid4().hex}
        self._is_silent = is_silent
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._socket: Any = None
        self._shown = {"stdout": 0, "stderr": 0}
        self._has_noted = False
        self._began_s = time.monotonic()
        self.job: Json | None = None

    def run(self) -> Json:
        """Start the command and follow it to its end; return its job.

        Raises:
            CliError: the hub refused it, or could not be reached any more.
        """
        if self._socket is None:
            self._connect()
        while not self._is_ended():
            try:
                event, payload = self._events.get(timeout=LOOK_S)
            except queue.Empty:
                self._note_waiting()
                continue
            self._take(event, payload)
        assert self.job is not None
        self._show_rest(self.job)
        return self.job

    def cancel(self) -> None:
        """Ask for the command's end; it is still followed.

        Raises:
            CliError: it cannot be ended.
        """
        if self.job is not None:
            self._client.post(f"/api/v1/jobs/{self.job['id']}/cancel")

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.disconnect()
            self._socket.hang_up()

    def _is_ended(self) -> bool:
        return self.job is not None and self.job["state"] not in OPEN and self._events.empty()

    def _take(self, event: str, payload: Any) -> None:
        if event == "admin_output":
            self._show(payload)
        elif event == "job" and self.job is not None and payload["id"] == self.job["id"]:
            self.job = payload
        elif event == "admin_lagging":
            output.note("the output came faster than it was taken; the rest is in the result")
        elif event == "dropped":
            raise CliError(f"the hub hung up: {payload.get('reason')}", exits.NOT_PERMITTED)
        elif event == "lost" and payload is self._socket:
            self._connect_again()

    # -- the connection ------------------------------------------------------------------------

    def _connect(self) -> None:
        made = self._client.socket()
        self._socket = made

        def put(event: str, payload: Any = None) -> None:
            self._events.put((event, payload))

        made.on("*", put, namespace=NAMESPACE)
        made.on("disconnect", lambda *_: put("lost", made), namespace=NAMESPACE)
        if self.job is None:
            self.job = self._call("admin_start", self._start)["job"]
        else:
            self.job = self._call("admin_watch", {"job_id": self.job["id"]})["job"]

    def _connect_again(self) -> None:
        output.note("the connection to the hub is lost; trying again")
        deadline_s = time.monotonic() + PATIENCE_S
        wait_s = 0.25
        while True:
            try:
                self._socket.hang_up()
                self._connect()
            except CliError as error:
                if error.exit_code != exits.UNAVAILABLE or time.monotonic() > deadline_s:
                    raise
                time.sleep(wait_s)
                wait_s = min(5.0, 2 * wait_s)
            else:
                return

    def _call(self, event: str, payload: Json) -> Json:
        from socketio.exceptions import SocketIOError

        try:
            reply: Json = self._socket.call(event, payload, namespace=NAMESPACE, timeout=CALL_S)
        except SocketIOError as error:
            raise CliError("the hub does not answer", exits.UNAVAILABLE) from error
        if "error" in reply:
            refused = reply["error"]
            said = refused.get("detail") or refused["code"]
            raise CliError(f"{said} ({refused['code']})", exits.REFUSED, reason=refused["code"])
        return reply

    # -- what is shown -------------------------------------------------------------------------

    def _show(self, event: Json) -> None:
        stream, data = event["stream"], base64.b64decode(event["data"])
        missing = event["offset"] - self._shown[stream]
        if missing > 0:
            self._note_gap(missing, stream)
        new = data[max(0, -missing) :]
        if new:
            self._write(stream, new)
            self._shown[stream] = event["offset"] + len(data)
        taken = {"job_id": event["job_id"], "bytes": event["bytes"]}
        self._socket.emit("admin_taken", taken, namespace=NAMESPACE)

    def _show_rest(self, job: Json) -> None:
        result = job["result"] or {}
        for stream, shown in self._shown.items():
            text = result.get(stream, "").encode("utf-8", "replace")
            total = result.get(f"{stream}_bytes", len(text))
            if shown == 0 or len(text) == total:
                self._write(stream, text[shown:])
                if job["error"] and stream == "stderr" and text[-1:] not in (b"", b"\n"):
                    self._write(stream, b"\n")  # a machine's own sentence has no line's end
            elif total > shown:
                self._note_gap(total - shown, stream)

    def _write(self, stream: str, data: bytes) -> None:
        if not self._is_silent:
            to = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
            to.write(data)
            to.flush()

    def _note_gap(self, count: int, stream: str) -> None:
        if not self._is_silent:
            output.note(f"{count} bytes of {stream} were not shown: the connection was interrupted")

    def _note_waiting(self) -> None:
        is_late = time.monotonic() - self._began_s > WAITING_NOTE_S
        if is_late and not self._has_noted and self.job and self.job["state"] == "queued":
            until = self.job["expires_at"]
            output.note(f"the machine is not linked: queued until {until}; Ctrl-C takes it back")
            self._has_noted = True
