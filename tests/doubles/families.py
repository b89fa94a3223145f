"""All families around a router, with a pool of nobodies and a recorded uplink."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

from agent.backup_requests import BackupRequests
from agent.backup_schedules import Schedules
from agent.backup_store import Store
from agent.backups import Backups
from agent.command_results import Refusal
from agent.commands import Commands
from agent.files import Files
from agent.keys import KeySyncs
from agent.limits import RateLimit, Slots
from agent.roster import Roster
from agent.router import Families, Router
from agent.shells import Shells
from agent.telemetry import Telemetry
from tests.doubles.disk import DiskDouble
from tests.doubles.endpoint import ListLog
from tests.doubles.pool import PoolDouble
from tests.doubles.uplink import RecordingUplink
from wire.admin import AdminResult, Command
from workers.errors import BackupError
from workers.loop import Loop
from workers.messages import AdminSpec, KeysSpec, ShellSpec
from workers.policy import Policy, Sections


class StillClock:
    """Seconds that move when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class OpenRules:
    """Everything is allowed, save what a test sets."""

    def __init__(self) -> None:
        self.token: Refusal | None = None
        self.lock: Refusal | None = None
        self.launched: Refusal | None = None
        self.asked: list[str] = []

    def token_refusal(self, token: str | None) -> Refusal | None:
        self.asked.append("token")
        return self.token

    def lock_refusal(self) -> Refusal | None:
        self.asked.append("lock")
        return self.lock

    def launch(self, command: Command) -> Refusal | tuple[AdminSpec, str | None]:
        self.asked.append("launch")
        if self.launched is not None:
            return self.launched
        argv = command.command.split() or ["/bin/true"]
        timeout_s = command.timeout_sec or 30.0
        return AdminSpec(argv=argv, env={}, cwd="", timeout_s=timeout_s), None


class StoredResults(dict[str, tuple[str, AdminResult]]):
    """By jobId."""

    def find(self, job_id: str) -> tuple[str, AdminResult] | None:
        return self.get(job_id)


class Core:
    """What the agent's core is, without a process."""

    def __init__(self, *, features: frozenset[str] = frozenset(), places: int = 4) -> None:
        self.clock = StillClock()
        self.loop = Loop(clock=self.clock)
        self.pool = PoolDouble()
        self.uplink = RecordingUplink(features=features)
        self.log = cast(Any, ListLog())  # in the place of a Log
        self.slots = Slots(self.loop, places)
        self.rules = OpenRules()
        self.known = StoredResults()
        self.shell_refusal: tuple[str, str | None] | None = None
        self.refusal: str | None = None
        pool = self.pool.as_pool
        self.shells = Shells(
            self.loop,
            pool,
            self.uplink,
            self.slots,
            lambda: self.shell_refusal,
            lambda message: (ShellSpec(argv=["/bin/sh"], env={}, cwd="/"), None),
            900.0,
            self.log,
        )
        self.commands = Commands(
            self.loop,
            pool,
            self.uplink,
            self.slots,
            RateLimit(self.clock, 0, 60.0),
            self.rules,
            self.known,
            self.log,
        )
        self.keys = KeySyncs(
            self.loop,
            pool,
            self.uplink,
            lambda: self.refusal,
            lambda user: (KeysSpec(github_user=user, target_user="me"), None),
        )
        self.files = Files(
            pool,
            self.uplink,
            "/var/log/agent.log",
            lambda: self.refusal,
            lambda path: self.refusal,
            list,
        )
        self.telemetry = Telemetry(
            self.loop, pool, self.uplink, 60.0, "1.0", lambda: None, self.log
        )
        self.roster = Roster(
            self.loop, pool, self.uplink, self.shells, self.commands, self.telemetry
        )
        self.state = tempfile.TemporaryDirectory(prefix="core-")
        disk, store = DiskDouble(self.loop).as_disk, Store(Path(self.state.name))
        self.backups = Backups(
            self.loop,
            pool,
            disk,
            self.uplink,
            store,
            Policy(Sections()),
            lambda: BackupError(self.refusal, "") if self.refusal else None,
            self.log,
        )
        requests = BackupRequests(self.backups, Schedules(store.root), disk, self.uplink)
        self.router = Router(
            Families(
                self.shells,
                self.commands,
                self.keys,
                self.files,
                self.roster,
                self.backups,
                requests,
            ),
            self.uplink,
            self.clock,
            self.log,
        )

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass and everything happen that is due."""
        self.clock.now_s += seconds
        for _ in range(5):
            self.loop.turn(0)

    def close(self) -> None:
        self.loop.close()
        self.state.cleanup()

    def said(self, kind: type) -> list[Any]:
        return self.uplink.of(kind)
