"""What a person at the hub does, and the judge of what came of it.

Rules: a Transcript is put together by offset alone, so that a byte lost, doubled or changed is a
failure; a job leaves a line in a file each time it runs, and is asked for again after each hello
until its result is there, as contract 1.7 has a hub do. A link is resumed once, and nothing with a
`jobId` is said on one before its hello: the agent would not know the word yet.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Self

from tests.doubles.hubs import Hub
from tests.doubles.reports import Json, NotSeenError, as_received

# Like no other test's, in a process beside this one: jobs are marked and found by their names.
_NAMES = (f"{os.getpid()}-{number}" for number in itertools.count(1))


class Transcript:
    """A session's output by offset; `gaps` are the stretches that the agent declared lost."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.data = bytearray()
        self.gaps: list[tuple[int, int]] = []
        self.repeated_bytes = 0

    def take(self, report: Json) -> None:
        """Add one reported event, if it is this session's."""
        payload = report["args"][0] if report["args"] else None
        if not isinstance(payload, dict) or payload.get("session") != self.session:
            return
        if report["event"] == "shell_output":
            self._output(payload["offset"], as_received(report).raw())
        elif report["event"] == "shell_gap":
            start, end = payload["from"], payload["to"]
            have = len(self.data)
            assert start == have, f"{self.session}: gap from {start} to {end}, have {have}"
            self.data += b"\0" * (end - start)
            self.gaps.append((start, end))

    def _output(self, offset: int, data: bytes) -> None:
        end = len(self.data)
        assert offset <= end, f"{self.session}: bytes {end} to {offset} never came"
        known = bytes(self.data[offset : offset + len(data)])
        assert data.startswith(known), f"{self.session}: other bytes at {offset} than before"
        self.repeated_bytes += len(known)
        self.data += data[len(known) :]

    def pieces(self) -> list[bytes]:
        """Return the output between gaps."""
        found, start = [], 0
        for gap_start, gap_end in self.gaps:
            found.append(bytes(self.data[start:gap_start]))
            start = gap_end
        return [*found, bytes(self.data[start:])]


class Console:
    """See the module.

    Args:
        hub: which is talked to; restarting it is the test's.
        ran: a file that each job of `job` appends a line to.
    """

    def __init__(self, hub: Hub, ran: Path | None = None) -> None:
        self.hub = hub
        self.jobs: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.fault: AssertionError | None = None
        self.ran = ran
        self._transcripts: dict[str, Transcript] = {}
        self._begun_on: dict[str, str | None] = {}  # the link that a session was opened on
        self._position = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._follower: threading.Thread | None = None

    # -- shells --------------------------------------------------------------------------------

    def open(self, session: str | None = None, first: str = "") -> str:
        """Start a session and type `first`; does not wait."""
        session = session or f"session-{next(_NAMES)}"
        with self._lock:
            self._transcripts[session] = Transcript(session)
            links = self.hub.connections
            self._begun_on[session] = links[-1].sid if links else None
        self.hub.emit("shell_start", {"session": session})
        if first:
            self.type(session, first)
        return session

    def shell(self, session: str | None = None) -> str:
        """Open a session that has said it is ready, without echo or prompt."""
        session = self.open(session, "PS1=; stty -echo; echo rea''dy\n")
        self.hub.wait_for_output(session, "ready\r\n")
        return session

    def type(self, session: str, text: str) -> None:
        self.hub.emit("shell_input", {"session": session, "data": text})

    def close(self, session: str) -> dict[str, Any]:
        """End a session; return its `shell_closed`."""
        self.hub.emit("shell_close", {"session": session})
        payload = self.hub.wait_for("shell_closed", session=session).payload
        assert isinstance(payload, dict)
        return payload

    def transcript(self, session: str) -> Transcript:
        """Return the session's output so far."""
        self._read()
        return self._transcripts[session]

    # -- commands ------------------------------------------------------------------------------

    def run(self, command: str, timeout: float = 120.0, **cmd: Any) -> dict[str, Any]:
        """Run a command by `jobId`; return its `admin_result`."""
        job = self.ask(command, **cmd)
        payload = self.hub.wait_for("admin_result", token=job, timeout=timeout).payload
        assert isinstance(payload, dict)
        return payload

    def ask(self, command: str, job: str | None = None, sid: str | None = None, **cmd: Any) -> str:
        """Ask for a command, on the newest link; `token` and `jobId` are the returned name."""
        job = job or f"job-{next(_NAMES)}"
        request = {"token": job, "jobId": job, "cmd": {"command": command, **cmd}}
        self.asked[job] += 1
        self.hub.emit("admin_run", request, sid=sid or self._greeted())
        return job

    def job(self, until: float | Path) -> str:
        """Ask for a command that notes that it runs, for some seconds or until a file is there."""
        name = f"job-{next(_NAMES)}"
        wait = f"sleep {until:.3f}" if isinstance(until, float | int) else _waiting(until)
        command = f"sh -c 'echo {name} >> {self.ran}; {wait}; echo done {name}'"
        self.jobs[name] = command
        self.ask(command, name, timeoutSec=60)
        return name

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Return every `admin_result` that came, by token."""
        if self.fault is not None:
            raise self.fault
        found: dict[str, list[dict[str, Any]]] = {}
        for event in self.hub.events("admin_result"):
            found.setdefault(event.payload["token"], []).append(event.payload)
        return found

    def runs(self) -> list[str]:
        """Return the jobs that ran, once for each time."""
        assert self.ran is not None
        return self.ran.read_text().split() if self.ran.exists() else []

    # -- after a reconnect ---------------------------------------------------------------------

    def follow(self) -> Console:
        """From now on resume earlier sessions after each hello, and ask for lost jobs again."""
        resumed, position = self._greeted(), self.hub.record.mark()
        self._follower = threading.Thread(
            target=self._follow, args=(resumed, position), name="console", daemon=True
        )
        self._follower.start()
        return self

    def stop(self) -> None:
        """Follow no more; raises what was wrong with a transcript, if anything was."""
        self._stopping.set()
        if self._follower is not None:
            self._follower.join(10)
        if self.fault is not None:
            raise self.fault

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        try:
            self.stop()
        except AssertionError as fault:
            if error is None:
                raise
            error.add_note(f"and before that, a transcript was wrong: {fault}")

    def _follow(self, resumed: str | None, position: int) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(NotSeenError):
                self.hub.record.wait("hello", lambda _: True, 0.2, position)
            position = self.hub.record.mark()
            sid = self._greeted()
            if sid is None or sid == resumed:
                continue
            resumed = sid
            try:
                self._read()
            except AssertionError as error:
                self.fault = error
                return
            with contextlib.suppress(AssertionError, OSError):  # the hub is gone again
                self._resume(sid)

    def _resume(self, sid: str) -> None:
        """On this link alone: a second time on the next one would ask for what was acknowledged."""
        for session, transcript in list(self._transcripts.items()):
            if self._begun_on[session] == sid:
                continue  # nothing was lost: that would be behind what was acknowledged
            request = {"session": session, "offset": len(transcript.data)}
            self.hub.emit("shell_resume", request, sid=sid)
        known = self.results()
        for name, command in list(self.jobs.items()):
            if name not in known:
                self.ask(command, name, sid, timeoutSec=60)

    def _greeted(self) -> str | None:
        """Return the newest link that has had its hello; None where the hub never says one."""
        hellos = self.hub.record.of("hello")
        return hellos[-1]["sid"] if hellos else None

    def _read(self) -> None:
        with self._lock:
            end = self.hub.record.mark()
            for report in self.hub.record.of("event", self._position, end):
                for transcript in self._transcripts.values():
                    transcript.take(report)
            self._position = end


def _waiting(file: Path) -> str:
    return f"until [ -e {file} ]; do sleep 0.05; done"
