"""The inventory kind: take stock of this machine once, and send what was found.

Rules: confined before anything is read: files that lists name, names of units, crontabs by a right
to read that Landlock holds to those places; no program, no socket. The work is done in a thread
with a deadline: a dead disk is told. What is too long is cut and said so in `incomplete`.

Source: contract part 2 (`inventory`); architecture "Privileges".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from wire import inventory, limits
from wire.inventory import AgentFacts, Hardware, Inventory, OperatingSystem
from workers.blocking import Errand
from workers.heartbeat import packages, services, system
from workers.kind import Desk, StreamlessWorker, Worker
from workers.messages import Spec
from workers.messages_heartbeat import Collected, InventorySpec

DEADLINE_S = 60.0
CHUNK_BYTES = 64 << 10
_LISTS = ("packages", "timers", "services", "users", "interfaces", "disks")


class StockTaker(StreamlessWorker):
    """See the module.

    Args:
        confine: gives up every right that taking stock does not need; called once, first of all.
        take: the work itself.
    """

    def __init__(
        self,
        desk: Desk,
        confine: Callable[[Desk], None],
        take: Callable[[InventorySpec], Inventory] | None = None,
    ) -> None:
        self._desk = desk
        self._confine = confine
        self._take = take or collect
        self._errand: Errand[Inventory] | None = None
        self._text = b""
        self._sent = 0
        self._collected = Collected()

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, InventorySpec)
        # 1.9 MiB: only here. Code, not data: it may be out of reach once we are confined.
        import psutil  # noqa: F401

        self._confine(self._desk)
        self._errand = Errand(
            self._desk.loop, lambda _: self._take(spec), self._on_done, self._on_late, DEADLINE_S
        )

    def on_room(self) -> None:
        self._send()

    def on_attached(self) -> None:
        self._send()

    def end(self, reason: str) -> None:
        if self._errand is not None:
            self._errand.abandon()
        self._desk.finish(Collected(error=reason))

    def _on_late(self) -> None:
        self._desk.finish(Collected(error="timeout"))

    def _on_done(self, answer: Inventory | Exception) -> None:
        if isinstance(answer, Exception):
            self._desk.log("error", "taking stock failed unexpectedly", error=repr(answer))
            self._desk.finish(Collected(error="internal"))
            return
        fitting = fitted(answer)
        self._text = msgspec.json.encode(fitting, order="sorted")
        self._collected = Collected(
            bytes=len(self._text),
            digest=inventory.digest(fitting),
            counts={name: len(getattr(fitting, name)) for name in _LISTS},
            incomplete=list(fitting.incomplete),
        )
        self._send()

    def _send(self) -> None:
        if not self._text:
            return
        while self._sent < len(self._text) and self._desk.has_room():
            chunk = self._text[self._sent : self._sent + CHUNK_BYTES]
            self._desk.send_data(0, self._sent, chunk)
            self._sent += len(chunk)
        if self._sent == len(self._text):
            self._desk.finish(self._collected)


def collect(spec: InventorySpec) -> Inventory:
    """Take stock; blocking."""
    wants = _Wanted(spec)
    told: dict[str, Any] = {}
    incomplete: list[str] = []
    for name, take in (
        ("disks", system.disks),
        ("interfaces", system.interfaces),
        ("services", services.services),
        ("users", system.users),
    ):
        if wants(name):
            told[name] = take()
    if wants("packages"):
        told["packages"], unread = packages.packages()
        incomplete += unread
    if wants("timers"):
        told["timers"], unread = services.timers()
        incomplete += unread
    return Inventory(
        agent=AgentFacts(
            version=spec.version, profile=spec.profile, policy_digest=spec.policy_digest
        ),
        os=system.operating_system() if wants("os") else OperatingSystem(name=sys.platform),
        hardware=system.hardware() if wants("hardware") else Hardware(),
        incomplete=tuple(sorted(incomplete)),
        **told,
    )


def fitted(found: Inventory, limit: int = limits.MAX_INVENTORY_BYTES) -> Inventory:
    """Cut the longest lists until all of it fits; pure."""
    while len(msgspec.json.encode(found)) > limit:
        name = max(_LISTS, key=lambda each: len(msgspec.json.encode(getattr(found, each))))
        kept = getattr(found, name)
        kept = kept[: len(kept) * 3 // 4]
        incomplete = tuple(sorted({*found.incomplete, f"{name}: cut"}))
        found = msgspec.structs.replace(found, **{name: kept}, incomplete=incomplete)
    return found


class _Wanted:
    """Was a section asked for? All, where none was named."""

    def __init__(self, spec: InventorySpec) -> None:
        self._sections = frozenset(spec.sections)

    def __call__(self, name: str) -> bool:
        return not self._sections or name in self._sections


def make(desk: Desk) -> Worker:
    """Return the worker that `workers.entry` runs."""
    return StockTaker(desk, confine_stocktaker)


def confine_stocktaker(desk: Desk) -> None:
    """Keep the places where packages, units and crontabs stand, to read."""
    if sys.platform != "win32":
        from workers import capabilities, landlock
        from workers.confine import Confinement, confine

        keep = {capabilities.CAP_DAC_READ_SEARCH} if landlock.version() else set()
        there = [*packages.READ_DIRS, *services.READ_DIRS]
        report = confine(
            Confinement(
                read_dirs=tuple(each for each in there if Path(each).is_dir()),
                read_files=tuple(each for each in services.READ_FILES if Path(each).is_file()),
                keep=frozenset(keep),
                secret_dirs=tuple(desk.secret_dirs),
            )
        )
        for sentence in report.missing:
            desk.log("warning", "worker less confined", kind="inventory", missing=sentence)
