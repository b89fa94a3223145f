"""The requests of `backup2`: verify, restore, ls, prune, cancel, and schedules.

Rules: only for a peer that has listed the feature; each is answered once, by `backup_result`.
Source: contract 1.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.backup_schedules import Schedule, Schedules
from agent.backups import Backups
from agent.clock import wall_ms
from agent.disk import Disk
from agent.uplink import Uplink
from wire import backup as wire
from wire import features
from wire.reasons import Reason

Request = (
    wire.BackupCancel
    | wire.BackupVerify
    | wire.BackupRestore
    | wire.BackupLs
    | wire.BackupPrune
    | wire.BackupScheduleList
    | wire.BackupScheduleSet
)


class BackupRequests:
    """See the module."""

    def __init__(self, backups: Backups, schedules: Schedules, disk: Disk, uplink: Uplink) -> None:
        self._backups = backups
        self._schedules = schedules
        self._disk = disk
        self._uplink = uplink

    def on_request(self, message: Request) -> None:
        """Carry a request out, or answer why not."""
        if features.BACKUP2 not in self._uplink.features:
            return
        args: dict[str, Any]
        match message:
            case wire.BackupCancel():
                self._backups.on_cancel(message)
            case wire.BackupVerify():
                args = {"full": bool(message.full), "snapshot": message.snapshot}
                self._backups.perform("verify", message.plan_id, message.request_id, args)
            case wire.BackupRestore():
                args = {
                    "paths": list(message.paths or ()),
                    "to": message.to,
                    "snapshot": message.snapshot,
                    "dry_run": bool(message.dry_run),
                    "failed": bool(message.failed),
                }
                self._backups.perform("restore", message.plan_id, message.request_id, args)
            case wire.BackupLs():
                paths = [message.path] if message.path else []
                args = {"paths": paths, "snapshot": message.snapshot}
                self._backups.perform("ls", message.plan_id, message.request_id, args)
            case wire.BackupPrune():
                args = {"dry_run": bool(message.dry_run)}
                self._backups.perform("prune", message.plan_id, message.request_id, args)
            case wire.BackupScheduleList():
                self._on_list(message.request_id)
            case wire.BackupScheduleSet():
                self._on_set(message)

    def refuse(self, message: Request, reason: str) -> None:
        """Answer a request that is not carried out."""
        if features.BACKUP2 in self._uplink.features:
            self._backups.answer(message.request_id, getattr(message, "plan_id", None), reason)

    def refuse_malformed(self, ids: dict[str, str], detail: str) -> None:
        """Answer a request that is none."""
        if features.BACKUP2 in self._uplink.features:
            self._backups.answer(
                ids["requestId"], ids.get("planId"), Reason.BAD_REQUEST, detail=detail
            )

    def _on_list(self, request_id: str) -> None:
        self._answer_schedules(request_id, lambda: None)

    def _on_set(self, message: wire.BackupScheduleSet) -> None:
        wanted = [
            Schedule(
                id=each.id, plan_id=each.plan_id, cron=each.cron, tz=each.tz, enabled=each.enabled
            )
            for each in message.schedules
        ]

        def take() -> str | None:
            kept = self._schedules.take_from_hub(wanted, wall_ms() / 1000)
            return f"kept, for the machine itself has set them: {', '.join(kept)}" if kept else None

        self._answer_schedules(message.request_id, take)

    def _answer_schedules(self, request_id: str, act: Callable[[], str | None]) -> None:
        """Do something in the disk thread; tell what is there then, whether it was done or not."""
        told: list[wire.Schedule] = []
        said: list[str | None] = []

        def task() -> None:
            try:
                said.append(act())
            finally:
                told.extend(map(_on_wire, self._schedules.read()))
            self._schedules.refuse_damage()

        def done(error: Exception | None) -> None:
            detail = str(error) if error is not None else said[0]
            word = None if error is None else getattr(error, "reason", "io_error")
            self._backups.answer(request_id, None, word, detail=detail, schedules=tuple(told))

        self._disk.submit(task, done)


def _on_wire(schedule: Schedule) -> wire.Schedule:
    return wire.Schedule(
        id=schedule.id,
        plan_id=schedule.plan_id,
        cron=schedule.cron,
        tz=schedule.tz,
        enabled=schedule.enabled,
    )
