"""Start-up and shut-down of the agent: put the parts together, take them apart. Nothing else.

Order: directories, lock, log, hardening; outbox; zygote; adoption of what an earlier agent left
(before socketio is imported, so that a shell waits 20 ms and not 300); control socket; link.
SIGTERM leaves the jobs on lease (restart, upgrade); as process 1 of a container it ends them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import adoption, dirs, exits, pulse
from agent.backup_clock import BackupClock
from agent.backup_requests import BackupRequests
from agent.backup_schedules import Schedules, from_config
from agent.backup_store import Store
from agent.backups import Backups
from agent.boot import boot_id
from agent.commands import Commands
from agent.config import Settings
from agent.control import ControlServer, Reply
from agent.disk import Disk
from agent.ending import Ending
from agent.errors import AlreadyRunningError, DirectoryError, OutboxError
from agent.files import Files
from agent.keys import KeySyncs
from agent.limits import RateLimit, Slots
from agent.lock import Lock
from agent.log import Log, adopt_library_logs
from agent.logfile import LogFile
from agent.loner import Loner
from agent.nursery import Nursery
from agent.outbox import Outbox
from agent.outgoing import Outgoing
from agent.pool import Pool
from agent.requests import requests_of
from agent.roster import Roster
from agent.router import Families, Router
from agent.rules import Rules
from agent.shells import Shells
from agent.silent_link import SilentLink
from agent.telemetry import Telemetry
from agent.upkeep import Upkeep
from agent.uplink_live import LiveUplink
from wire import __version__
from wire.features import ACK, BACKUP2, BASE64, CREDIT, POLL_NOW, RESUME, STREAM, WORKERS
from workers import policy
from workers.errors import BackupError
from workers.loop import Loop, now_s
from workers.policy import Policy, PolicyError, tenant_document

if TYPE_CHECKING:
    from agent.heartbeat import Heartbeat
    from agent.live_link import LiveLink

FEATURES = (ACK, CREDIT, RESUME, STREAM, BASE64, WORKERS, BACKUP2)
# A Unix socket's path may have 107 bytes; ours add 23 to the run directory's.
MAX_RUN_DIR_BYTES = 80
FLUSH_S = 2.0


def run(settings: Settings) -> int:
    """Run the agent until it is told to end.

    Returns:
        An exit code: 0; 1 when the outbox cannot be opened; 75 when another agent holds the state
        directory; 78 when policy.yaml or a directory is wrong.

    Raises:
        DirectoryError: a directory is not fit for use, and so there is no log; exit 78.
    """
    _prepare(settings)
    try:
        lock = Lock.take(settings.dirs.state)
    except AlreadyRunningError as e:
        print(f"jackline: {e}", file=sys.stderr)  # noqa: T201  # before there is a log
        return exits.TRY_LATER
    log = Log(LogFile(settings.logging.file), settings.logging.level, settings.secrets)
    try:
        return Agent(settings, _policy(settings), log).run()
    except (PolicyError, DirectoryError) as e:
        return _give_up(log, e, exits.CONFIGURATION)
    except OutboxError as e:
        return _give_up(log, e, exits.FAILED)
    finally:
        log.close()
        lock.release()


def _give_up(log: Log, error: Exception, code: int) -> int:
    """Tell a person, and the log for who only looks there."""
    log.error("the agent cannot start", error=str(error))
    print(f"jackline: {error}", file=sys.stderr)  # noqa: T201  # plain, as before there was a log
    return code


class Agent:
    """All parts of one running agent."""

    def __init__(self, settings: Settings, machine_policy: Policy, log: Log) -> None:
        self.settings = settings
        self.log = log
        self.started_s = now_s()
        self.policy = machine_policy
        state, run_dir = str(settings.dirs.state), str(settings.dirs.run)
        self.loop = Loop(on_error=lambda e: log.exception("a callback of the core failed", e))
        self.disk = Disk(self.loop)
        self.rules = Rules(machine_policy, settings.proxies, settings.transport.ca_file, os.environ)
        self.outbox = Outbox(settings.dirs.state / "outbox.db", self.loop, log, self._on_disk_full)
        self.outgoing = Outgoing()
        self.uplink = LiveUplink(self.outgoing, self.outbox)
        self.pool = Pool(self.loop, self.disk, state, run_dir, _secret_dirs(settings), log)
        self.nursery = self._make_nursery(state, run_dir)
        self.pool.nursery = self.nursery
        self.slots = Slots(self.loop, machine_policy.sections.admin.max_concurrent)
        self.shells = self._make_shells()
        self.commands = self._make_commands()
        self.keys = KeySyncs(
            self.loop, self.pool, self.uplink, self.rules.keys_refusal, self.rules.keys_spec
        )
        self.files = self._make_files()
        self.telemetry = Telemetry(
            self.loop,
            self.pool,
            self.uplink,
            settings.stats_interval_s,
            __version__,
            self._rtt_ms,
            log,
            overdue=lambda: self.backup_clock.overdue,
        )
        self.roster = Roster(
            self.loop, self.pool, self.uplink, self.shells, self.commands, self.telemetry
        )
        self.backups, self.backup_clock = self._make_backups()
        families = Families(
            self.shells,
            self.commands,
            self.keys,
            self.files,
            self.roster,
            self.backups,
            BackupRequests(self.backups, self.schedules, self.disk, self.uplink),
        )
        self.heartbeat = self._make_heartbeat()
        self.router = Router(families, self.uplink, self.loop.clock, log, self._poll_now)
        self.ending = Ending(self)
        self.control = self._make_control()
        self.link: LiveLink | SilentLink
        self.exit_code = exits.OK

    def run(self) -> int:
        """Run until `leave`."""
        self._handle_signals()
        self.outbox.start()
        self.nursery.connect()
        adopters: dict[str, adoption.Adopter] = {
            "shell": self.shells,
            "admin": self.commands,
            "keys": self.keys,
            "backup": self.backups,
        }
        adopted = adoption.adopt_all(
            self.pool,
            str(self.settings.dirs.state),
            adopters,
            Loner(self.pool),
            self.outbox.has,
            self.log,
        )
        self.log.info("agent started", version=__version__, pid=os.getpid(), adopted=adopted)
        self._warn()
        self.pool.start_watching()
        self.control.open()
        self.telemetry.start()
        self.backup_clock.start()
        self._start_link()
        if self.heartbeat is not None:
            self.telemetry.keep = self.heartbeat.on_sample
            self.heartbeat.start()
        self._start_pulse()
        Upkeep(self.loop, self.log).start()
        self.loop.run()
        self._shut_down()
        return self.exit_code

    def _warn(self) -> None:
        """Say at each start what is allowed and may not be meant: few read `config check` again."""
        doubts = [*self.settings.warnings, *self.policy.warnings()]
        group = self.settings.control_group
        if group is not None and dirs.group_id(group) is None:
            doubts.append(
                f"control.group: nobody knows a group {group}, so the socket is ours alone"
            )
        for sentence in doubts:
            self.log.warning("the configuration is doubtful", what=sentence)

    def leave(self) -> None:
        """End this process; jobs stay on lease, results stay in the outbox."""
        self.loop.stop()

    def _shut_down(self) -> None:
        self.link.stop(FLUSH_S)
        self.link.join(FLUSH_S + 3.0)
        self.control.close()
        self.nursery.close()
        if self.heartbeat is not None:
            self.heartbeat.close()
        self.disk.close(5.0)
        self.outbox.close()
        self.log.info("agent ended", pid=os.getpid())

    def _start_link(self) -> None:
        if self.heartbeat is not None and self.policy.sections.profile == "reporter":
            self.link = SilentLink()
            return
        # Imported late: socketio takes longer than all the rest of the start.
        adopt_library_logs(self.log)
        from agent.link_events import make_link

        features = FEATURES if self.heartbeat is None else (*FEATURES, POLL_NOW)
        self.link = make_link(self, features, lambda: boot_id(self.settings.dirs.run))
        self.link.start()

    def _start_pulse(self) -> None:
        if pulse.is_wanted():
            pulse.Pulse(self.loop, self._is_well).start()

    def _is_well(self) -> bool:
        """Does the link's thread still live? Its silence is what only a new process mends."""
        return self.link.status().state != "stopped"

    def _poll_now(self) -> None:
        if self.heartbeat is not None:
            self.heartbeat.poll_now()

    def _rtt_ms(self) -> float | None:
        return self.link.status().rtt_ms

    def _on_disk_full(self, is_full: bool) -> None:
        self.rules.is_disk_full = is_full

    def _make_nursery(self, state: str, run_dir: str) -> Nursery:
        from workers.hardening import harden_agent, relax
        from workers.reaper import Reaper
        from workers.zygote_address import address_of

        hardening = harden_agent()
        for missing in hardening.missing:
            self.log.info("not hardened", what=missing)
        reaper = Reaper()
        reaper.attach(self.loop)
        return Nursery(
            self.loop,
            address_of(run_dir, __version__),
            state,
            self.pool.note_exit,
            reaper.watch,
            self.log,
            lambda pid: relax(pid, hardening),
        )

    def _make_shells(self) -> Shells:
        return Shells(
            self.loop,
            self.pool,
            self.uplink,
            self.slots,
            self.rules.shell_refusal,
            self.rules.shell_spec,
            self.policy.sections.shell.detached_timeout_sec,
            self.log,
        )

    def _make_commands(self) -> Commands:
        admin = self.policy.sections.admin
        rate = RateLimit(self.loop.clock, admin.rate_limit_max, admin.rate_limit_window_sec)
        return Commands(
            self.loop,
            self.pool,
            self.uplink,
            self.slots,
            rate,
            self.rules,
            self.outbox,
            self.log,
        )

    def _make_heartbeat(self) -> Heartbeat | None:
        if self.settings.identity is None:
            return None
        from agent.heartbeat_start import make_heartbeat  # only who is enrolled needs it

        return make_heartbeat(self, self.settings.identity, lambda: boot_id(self.settings.dirs.run))

    def _make_files(self) -> Files:
        return Files(
            self.pool,
            self.uplink,
            str(self.settings.logging.file),
            self.rules.tail_refusal,
            self.rules.listing_refusal,
            self.rules.listing_roots,
        )

    def _make_backups(self) -> tuple[Backups, BackupClock]:
        store = Store(self.settings.dirs.state)
        self.schedules = self._make_schedules(store)
        backups = Backups(
            self.loop,
            self.pool,
            self.disk,
            self.uplink,
            store,
            self.policy,
            self.rules.backup_refusal,
            self.log,
        )
        max_age_hours = self.policy.sections.backup.max_age_hours
        clock = BackupClock(self.loop, self.disk, backups, self.schedules, max_age_hours, self.log)
        return backups, clock

    def _make_schedules(self, store: Store) -> Schedules:
        try:
            return Schedules(store.root, from_config(self.policy.sections.backup.schedules or ()))
        except BackupError as e:
            self.log.error("backup.schedules is not used", error=str(e))
            return Schedules(store.root, fault=str(e))

    def _make_control(self) -> ControlServer:
        handlers: dict[str, Callable[[dict[str, Any], Reply], None]] = requests_of(self)
        return ControlServer(
            self.loop,
            self.settings.dirs.control_socket,
            handlers,
            group=dirs.group_id(self.settings.control_group),
            on_error=lambda e: self.log.exception("a control request failed", e),
        )

    def _handle_signals(self) -> None:
        is_init = os.getpid() == 1

        def on_term(_number: int, _frame: object) -> None:
            self.loop.call_threadsafe(self.ending.begin if is_init else self.leave)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_term)
        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, on_term)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _prepare(settings: Settings) -> None:
    dirs.prepare(settings.dirs.state)
    group = dirs.group_id(settings.control_group)
    dirs.prepare(settings.dirs.run, group=group, may_be_passed=True)
    length = len(os.fsencode(settings.dirs.run))
    if length > MAX_RUN_DIR_BYTES:
        raise DirectoryError(
            f"{settings.dirs.run}: {length} bytes are too long for sockets in it; "
            f"set JACKLINE_RUN_DIR to a path of at most {MAX_RUN_DIR_BYTES}"
        )


def _policy(settings: Settings) -> Policy:
    return policy.load(
        settings.sections,
        settings.policy_file,
        state_dir=settings.dirs.state,
        origins=settings.origins,
        tenant=None if settings.identity is None else tenant_document(settings.identity.policy),
    )


def _secret_dirs(settings: Settings) -> list[str]:
    found = [settings.dirs.state, settings.dirs.config]
    if settings.config_file is not None:
        found.append(Path(settings.config_file).parent)
    return sorted({str(path) for path in found})
