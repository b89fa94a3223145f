"""The parts of one hub, put together: start-up code alone, without a branch.

Rules: every service gets what it needs from here; nothing is global. `Hub.start` and `Hub.stop` run
on the server's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from hub import retention
from hub.admin.namespace import AdminEvents
from hub.admin.service import Admin
from hub.agents.admission import Admission
from hub.agents.answers import Answers
from hub.agents.clones import Clones
from hub.agents.housekeeping import Housekeeping
from hub.agents.inbox import Inbox
from hub.agents.links import Links
from hub.agents.namespace import AgentNamespace
from hub.agents.pings import Pings
from hub.agents.presence import Presence
from hub.agents.workers import WorkerEvents
from hub.alerts.watch import Alerts
from hub.audit import seals
from hub.audit.growth import Growth
from hub.backup.service import Backups
from hub.cron.service import Cron
from hub.db.database import Database
from hub.files.namespace import FileEvents
from hub.heartbeat import authority
from hub.heartbeat import upkeep as heartbeat_upkeep
from hub.heartbeat.addresses import Addresses
from hub.heartbeat.artifact_store import DirectoryStore
from hub.heartbeat.beats import Beats
from hub.heartbeat.enrolment import Enroller
from hub.heartbeat.showing import Reader, read_proxy_secret
from hub.jobs.queue import Jobs
from hub.jobs.reconciliation import Reconciliation
from hub.keyring import Keyring
from hub.keys.service import Keys
from hub.loops import keep_up
from hub.operators.doors import Doors
from hub.operators.logins import Logins
from hub.operators.uses import Uses
from hub.settings import HubSettings
from hub.shell.namespace import ShellEvents
from hub.shell.sessions import Sessions
from hub.sockets.console import Console
from hub.sockets.server import SocketServer
from hub.telemetry.collector import Collector
from hub.throttle import Failures
from wire.telemetry import Stats


class Hub:
    """One hub: its settings, keys, database, and the services over them."""

    def __init__(self, settings: HubSettings, keyring: Keyring, database: Database) -> None:
        self.settings = settings
        self.keyring = keyring
        self.database = database
        self.origins = origins(settings, settings.port)
        self.logins = Logins(database, keyring)
        self.authority = authority.load(settings.state_dir, keyring)
        self.addresses = Addresses(settings, self.authority)
        self.showing = Reader(
            self.authority, read_proxy_secret(settings), self.addresses.agents_url
        )
        self.enroller = Enroller(keyring, self.authority, settings.certificate_hours)
        self.enrolment_failures = Failures(limit=20, window_s=60)
        self.beats = Beats(database, settings.heartbeat_interval_s)
        self.artifacts = DirectoryStore(settings.state_dir / "artifacts")
        self.doors = Doors()
        self.uses = Uses(database, self.later)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.console = Console(database, lambda: self.origins, self.later)
        self.links = Links()
        self.inbox = Inbox(database, self.later)
        self.admission = Admission(database, keyring, self.showing, settings.connects_per_s)
        self.presence = Presence(database, self.links, self.console)
        self.pings = Pings(self.links, self.presence.on_silence)
        self.clones = Clones(database, self.links, self.pings, self.presence)
        self.agents = AgentNamespace(
            database,
            self.admission,
            self.links,
            self.inbox,
            self.pings,
            self.clones,
            self.presence,
        )
        self.housekeeping = Housekeeping(database, self.links, settings.presence_days)
        self.telemetry = Collector(database, self.console, settings)
        self.inbox.live(Stats, self.telemetry.on_stats)
        self.jobs = Jobs(database, self.links, self.console, self.later)
        self.reconciliation = Reconciliation(self.jobs, self.inbox, self.later)
        self.admin = Admin(
            keyring, self.links, self.inbox, self.jobs, self.reconciliation, self.later
        )
        AdminEvents(self)
        self.backups = Backups(
            database,
            self.links,
            self.inbox,
            self.console,
            self.jobs,
            self.reconciliation,
            self.later,
        )
        self.cron = Cron(self.admin)
        self.keys = Keys(self.admin, self.jobs, self.inbox, self.reconciliation)
        self.alerts = Alerts(database, keyring, self.console)
        self.shells = Sessions(self)
        ShellEvents(self)
        self.answers = Answers(self.links)
        WorkerEvents(self)
        FileEvents(self)
        self.sockets = SocketServer(settings, [self.agents, self.console])

    def bound(self, port: int) -> None:
        """Learn which port the listener got: settings may have left it open."""
        self.origins = origins(self.settings, port)
        self.addresses.note(port)

    def later(self, job: Coroutine[Any, Any, Any]) -> None:
        """Run something on the side until it ends or the hub stops."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forever(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop on the side for as long as the hub runs, whatever it meets."""
        self.later(keep_up(loop))

    async def start(self) -> None:
        """Begin what runs by itself."""
        await self.shells.start()
        self.forever(self.sockets.eio.watch)
        self.forever(self.console.check_forever)
        self.forever(Growth(self.database, self.console).look_forever)
        self.forever(
            partial(seals.keep_sealing, self.database, self.keyring, self.settings.audit_days)
        )
        self.artifacts.prepare()
        self.forever(partial(heartbeat_upkeep.run, self))
        self.forever(partial(retention.forget_forever, self.database, self.settings.history_days))
        self.forever(self.jobs.run)
        self.forever(self.admin.run)
        self.forever(self.alerts.run)
        self.forever(self.alerts.run_sending)
        self.later(self.presence.settle())
        self.forever(self.presence.write_forever)
        self.forever(self.pings.ask_forever)
        self.forever(self.housekeeping.look_forever)
        self.forever(self.housekeeping.sweep_forever)
        self.forever(self.telemetry.store_forever)
        self.forever(self.telemetry.sweep_forever)

    async def stop(self) -> None:
        """End what runs by itself, then the database."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.shells.stop()
        self.database.close()
        self.addresses.forget()


def origins(settings: HubSettings, port: int) -> frozenset[str]:
    """Return the origins that a browser's request may come from."""
    scheme = "https" if settings.tls_cert_file or settings.tls_own_ca else "http"
    local = {settings.host, "localhost", "127.0.0.1", "[::1]"}
    found = {f"{scheme}://{host}:{port}" for host in local}
    if settings.public_url:
        found.add(settings.public_url.rstrip("/"))
    return frozenset(found)
