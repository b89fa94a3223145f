"""The files kind: follow the agent's own log (`tail`), or list one directory (`listing`).

Rules: confined before anything is read. A tail may read the log's directory, so that it can follow
a rotation; where that directory also holds secrets (`agent.log` beside the configuration) it may
read the one file alone, and when another file takes its name the tail finishes with `rotated`: the
agent starts the next one with `from_start`. A listing may read names, never contents.

Source: contract 1.6; architecture "Privileges".
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from workers.blocking import Errand
from workers.files.errors import FilesError
from workers.files.listing import list_directory
from workers.files.tail import LogFollower, texts
from workers.kind import Desk, StreamlessWorker, Worker
from workers.messages import Listed, ListingSpec, Spec, TailEnded, TailSpec, TailText

POLL_S = 0.5
TEXT_BYTES = 32 << 10
LISTING_DEADLINE_S = 10.0

Confine = Callable[[Desk, TailSpec | ListingSpec], None]


class TailWorker(StreamlessWorker):
    """One follower of the log: at most READ_BYTES every POLL_S, nothing while there is no room."""

    def __init__(self, desk: Desk, confine: Confine) -> None:
        self._desk = desk
        self._confine = confine
        self._is_over = False

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, TailSpec)
        self._confine(self._desk, spec)
        self._follower = LogFollower(spec.path)
        self._or_finish(lambda: self._follower.start(spec.lines, spec.from_start))
        self._poll()

    def end(self, reason: str) -> None:
        self._is_over = True
        self._desk.finish(TailEnded(reason=reason))

    def _poll(self) -> None:
        if self._desk.has_room() and not self._is_over:
            self._or_finish(self._send_new_lines)
        if not self._is_over:
            self._desk.loop.call_later(POLL_S, self._poll)

    def _send_new_lines(self) -> None:
        for text in texts(self._follower.read(), TEXT_BYTES):
            self._desk.send(TailText(data=text))

    def _or_finish(self, act: Callable[[], object]) -> None:
        try:
            act()
        except FilesError as e:
            self.end(e.reason)


class ListingWorker(StreamlessWorker):
    """One listing, on an errand: a dead mount answers with `timeout`."""

    def __init__(self, desk: Desk, confine: Confine) -> None:
        self._desk = desk
        self._confine = confine
        self._errand: Errand[Listed] | None = None

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, ListingSpec)
        self._confine(self._desk, spec)
        self._errand = Errand(
            self._desk.loop,
            lambda _: list_directory(spec.path, spec.roots, spec.max_entries),
            self._on_done,
            lambda: self._desk.finish(Listed(error="timeout")),
            LISTING_DEADLINE_S,
        )

    def end(self, reason: str) -> None:
        if self._errand is not None:
            self._errand.abandon()
        self._desk.finish(Listed(error=reason))

    def _on_done(self, answer: Listed | Exception) -> None:
        if isinstance(answer, FilesError):
            answer = Listed(error=answer.reason)
        elif isinstance(answer, Exception):
            self._desk.log("error", "listing failed unexpectedly", error=repr(answer))
            answer = Listed(error="worker_died")
        self._desk.finish(answer)


class FilesWorker(StreamlessWorker):
    """Becomes what its spec asks for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._worker: TailWorker | ListingWorker | None = None

    def on_start(self, spec: Spec) -> None:
        if isinstance(spec, TailSpec):
            self._worker = TailWorker(self._desk, _confine)
        else:
            self._worker = ListingWorker(self._desk, _confine)
        self._worker.on_start(spec)

    def end(self, reason: str) -> None:
        if self._worker is not None:
            self._worker.end(reason)


def make(desk: Desk) -> Worker:
    """Return the worker that `workers.entry` runs, for both specs."""
    return FilesWorker(desk)


def _confine(desk: Desk, spec: TailSpec | ListingSpec) -> None:
    if sys.platform != "win32":
        from workers.files.confinement import confine_to

        for sentence in confine_to(spec, desk.secret_dirs).missing:
            desk.log("warning", "worker less confined", kind="files", missing=sentence)
