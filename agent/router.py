"""From an inbound message to the family that handles it.

Rules: core thread only; never blocks; a row of the table without a case fails the type check;
control requests are limited (200/s, burst 400) and each refused one is answered; data is never
refused here. Source: contract 1.1, 1.2; shared constants of the fault cases.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from agent import backup_requests
from agent.backup_requests import BackupRequests
from agent.backups import Backups
from agent.commands import Commands
from agent.files import Files
from agent.keys import KeySyncs
from agent.limits import TokenBucket
from agent.log import Log
from agent.roster import Roster
from agent.shells import Shells
from agent.uplink import Uplink
from wire import features
from wire.admin import AdminCredit, AdminRun
from wire.backup import (
    BackupCancel,
    BackupLs,
    BackupPlan,
    BackupPrune,
    BackupRestore,
    BackupScheduleList,
    BackupScheduleSet,
    BackupStart,
    BackupVerify,
)
from wire.errors import WireError
from wire.events import ToAgent, ToServer
from wire.files import (
    DirListRequest,
    DirListResponse,
    LogTailStart,
    LogTailStop,
)
from wire.keys import SyncKeys
from wire.link import HelloAck, Ping, PollNow, Pong
from wire.reasons import Reason
from wire.shell import (
    ShellAck,
    ShellClose,
    ShellCredit,
    ShellInput,
    ShellResize,
    ShellResume,
    ShellStart,
)
from wire.tools import ToolCall, ToolCancel
from wire.updates import AgentUpdate, AgentUpdateResult, CheckUpdates
from wire.workers import WorkerList, WorkerRestart

CONTROL_RATE = 200.0
CONTROL_BURST = 400
UNSUPPORTED = "unsupported"

Request = (
    AdminRun
    | ShellStart
    | SyncKeys
    | LogTailStart
    | DirListRequest
    | BackupPlan
    | BackupStart
    | CheckUpdates
    | AgentUpdate
    | WorkerList
    | WorkerRestart
)


@dataclass(frozen=True)
class Families:
    """Who handles what."""

    shells: Shells
    commands: Commands
    keys: KeySyncs
    files: Files
    roster: Roster
    backups: Backups
    backup_requests: BackupRequests


class Router:
    """See the module.

    Args:
        poll_now: makes the heartbeat beat, where there is one.
    """

    def __init__(
        self,
        families: Families,
        uplink: Uplink,
        clock: Callable[[], float],
        log: Log,
        poll_now: Callable[[], object] = lambda: None,
    ) -> None:
        self._families = families
        self._poll_now = poll_now
        self._uplink = uplink
        self._log = log
        self._control = TokenBucket(clock, CONTROL_RATE, CONTROL_BURST)
        self.bad_events = 0

    def on_event(self, message: ToAgent) -> None:
        """Hand a message to its family."""
        families = self._families
        match message:
            case ShellInput():
                families.shells.on_input(message)
            case ShellCredit():
                families.shells.on_credit(message)
            case ShellAck():
                families.shells.on_ack(message)
            case ShellResume():
                families.shells.on_resume(message)
            case ShellResize():
                families.shells.on_resize(message)
            case ShellClose():
                families.shells.on_close(message)
            case AdminCredit():
                families.commands.on_credit(message)
            case LogTailStop():
                families.files.on_tail_stop(message)
            case HelloAck() | Ping() | Pong():
                return  # the link's own
            case PollNow():
                self._poll_now()
            case ToolCall() | ToolCancel():
                return  # features that this agent does not list
            case (
                BackupCancel()
                | BackupVerify()
                | BackupRestore()
                | BackupLs()
                | BackupPrune()
                | BackupScheduleList()
                | BackupScheduleSet()
            ):
                self._on_backup_request(message)
            case (
                AdminRun()
                | ShellStart()
                | SyncKeys()
                | LogTailStart()
                | DirListRequest()
                | BackupPlan()
                | BackupStart()
                | CheckUpdates()
                | AgentUpdate()
                | WorkerList()
                | WorkerRestart()
            ):
                self._on_request(message)
            case _:
                assert_never(message)

    def _on_backup_request(self, message: backup_requests.Request) -> None:
        if self._control.admits():
            self._families.backup_requests.on_request(message)
        else:
            self._families.backup_requests.refuse(message, Reason.RATE_LIMITED)

    def _on_request(self, message: Request) -> None:
        if not self._control.admits():
            self._refuse(message, Reason.RATE_LIMITED)
            return
        families = self._families
        match message:
            case AdminRun():
                families.commands.on_run(message)
            case ShellStart():
                families.shells.on_start(message)
            case SyncKeys():
                families.keys.on_sync(message)
            case LogTailStart():
                families.files.on_tail_start(message)
            case DirListRequest():
                families.files.on_list(message)
            case WorkerList():
                families.roster.on_list(message)
            case WorkerRestart():
                families.roster.on_restart(message)
            case BackupPlan():
                families.backups.on_plan(message)
            case BackupStart():
                families.backups.on_start(message)
            case CheckUpdates() | AgentUpdate():
                self._refuse(message, UNSUPPORTED)
            case _:
                assert_never(message)

    def _refuse(self, message: Request, reason: str) -> None:
        families = self._families
        match message:
            case AdminRun():
                families.commands.refuse_for_rate(message)
            case ShellStart():
                families.shells.refuse(message.session, reason)
            case SyncKeys():
                families.keys.refuse(message.user, reason)
            case LogTailStart():
                families.files.refuse_tail(message.session, reason)
            case DirListRequest():
                families.files.refuse_listing(message, reason)
            case BackupPlan() | BackupStart():
                families.backups.refuse(message.plan_id, reason)
            case CheckUpdates() | AgentUpdate():
                self._final(AgentUpdateResult(ok=False, error=reason, ts=_now()), "update")
            case WorkerList() | WorkerRestart():
                families.roster.refuse(message, reason)
            case _:
                assert_never(message)

    def _final(self, message: ToServer, key: str) -> None:
        self._uplink.final(message, f"refused-{key}-{secrets.token_hex(8)}")

    def on_bad_event(self, error: WireError) -> None:
        """Answer what is no message with its family's error; else count and log it."""
        self.bad_events += 1
        is_admitted = self._control.admits()
        if is_admitted:  # a flood of them must not push everything else out of the log
            self._log.warning(
                "bad event", event=error.event[:64], reason=error.reason, detail=error.detail
            )
        session = error.ids.get("session")
        if error.event == "shell_input" and error.reason == "too_large" and session:
            # Whatever the rate: what is typed next must not run on as if nothing were missing.
            self._families.shells.end(session, Reason.TOO_LARGE)
        elif is_admitted:
            self._answer_bad(error)

    def _answer_bad(self, error: WireError) -> None:
        families, ids = self._families, error.ids
        session = ids.get("session")
        match error.event:
            case "admin_run":
                families.commands.refuse_malformed(dict(ids), error.detail)
            case "shell_start" if session:
                families.shells.refuse_malformed(session, error.detail)
            case "sync_keys":
                families.keys.refuse(ids.get("user", ""), Reason.BAD_REQUEST, error.detail)
            case "log_tail_start" if session:
                families.files.refuse_tail(session, Reason.BAD_REQUEST)
            case "dir_list_request" if "requestId" in ids:
                self._uplink.control(
                    DirListResponse(
                        client_id=ids.get("clientId", ""),
                        request_id=ids["requestId"],
                        mode=ids.get("mode", ""),
                        path=ids.get("path", ""),
                        entries=(),
                        error=Reason.BAD_REQUEST,
                    )
                )
            case "backup_plan" | "backup_start" if "planId" in ids:
                is_ours = features.BACKUP2 in self._uplink.features
                request_id = ids.get("requestId") if is_ours else None
                reason = Reason.BAD_REQUEST
                families.backups.refuse(ids["planId"], reason, error.detail, request_id)
            case (
                "backup_cancel"
                | "backup_verify"
                | "backup_restore"
                | "backup_ls"
                | "backup_prune"
                | "backup_schedule_list"
                | "backup_schedule_set"
            ) if "requestId" in ids:
                families.backup_requests.refuse_malformed(dict(ids), error.detail)
            case "check_updates" | "agent_update":
                failed = AgentUpdateResult(ok=False, error=Reason.BAD_REQUEST, ts=_now())
                self._final(failed, "update")
            case "worker_restart" if "requestId" in ids:
                families.roster.refuse_malformed(ids["requestId"])
            case _:
                return


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
