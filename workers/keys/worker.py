"""The keys kind: bring a GitHub user's public keys into the account's authorized_keys.

Runs as the target user (entry has dropped to it). Rules: everything that can hang (name service,
network, a home on a dead mount) happens on one errand with one deadline; ending or running late
gives up before the file is replaced, never in the middle of it.

Source: contract 1.6; architecture "Privileges"; fault cases K.
"""

from __future__ import annotations

import sys

import msgspec

from workers.blocking import Errand
from workers.keys.errors import SyncError
from workers.keys.fetch import DEADLINE_S
from workers.kind import Desk, StreamlessWorker, Worker
from workers.messages import KeysEnded, KeysSpec, Spec


class KeysWorker(StreamlessWorker):
    """One sync."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._started_s = desk.loop.clock()
        self._errand: Errand[KeysEnded] | None = None

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, KeysSpec)
        self._errand = Errand(
            self._desk.loop,
            lambda errand: _sync(spec, errand),
            self._on_done,
            lambda: self._finish(_failed("timeout", f"not done within {DEADLINE_S:g} s")),
            DEADLINE_S,
        )

    def end(self, reason: str) -> None:
        if self._errand is not None:
            self._errand.abandon()
        self._finish(_failed(reason, "given up on the way"))

    def _on_done(self, answer: KeysEnded | Exception) -> None:
        if isinstance(answer, SyncError):
            answer = _failed(answer.reason, answer.detail)
        elif isinstance(answer, Exception):
            self._desk.log("error", "key sync failed unexpectedly", error=repr(answer))
            answer = _failed("worker_died", type(answer).__name__)
        self._finish(answer)

    def _finish(self, result: KeysEnded) -> None:
        spent_ms = round((self._desk.loop.clock() - self._started_s) * 1000)
        self._desk.finish(msgspec.structs.replace(result, duration_ms=spent_ms))


def make(desk: Desk) -> Worker:
    """Return the worker that `workers.entry` runs."""
    return KeysWorker(desk)


def import_all() -> None:
    """Import what a sync needs; called before this process becomes an account that may not read it.

    7 MiB: that is why it is not done at the top.
    """
    if sys.platform != "win32":
        from workers.keys import fetch, sync  # noqa: F401

        fetch.import_all()


def _failed(reason: str, detail: str) -> KeysEnded:
    return KeysEnded(ok=False, error=reason, detail=detail)


def _sync(spec: KeysSpec, errand: Errand[KeysEnded]) -> KeysEnded:
    if sys.platform == "win32":
        raise SyncError("unsupported", "key sync needs a POSIX system")
    else:
        from workers.keys.sync import sync

        return sync(spec, lambda: not errand.is_abandoned())
