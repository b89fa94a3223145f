"""What a worker found, in the words of the wire.

Pure. Source: contract 1.5, 1.7 `backup2`.
"""

from __future__ import annotations

import base64
from typing import Any

from agent.backup_store import Plan
from wire.backup import (
    BackupComplete,
    BackupFailed,
    BackupPlanned,
    BackupProgress,
    BackupResult,
)
from workers.messages_backup import BackupEnded, BackupOp, BackupStep

SAMPLES = 25
_IN_JOB = (
    "new",
    "changed",
    "unchanged",
    "deleted",
    "transferBytes",
    "folders",
    "skipped",
    "rsync",
    "notes",
    "errors",
)


def planned(plan: Plan, request_id: str | None) -> BackupPlanned:
    """Return `backup_plan` on its way back; the rest of what was counted is in `job`."""
    found = plan.found
    files, modifies = found.get("files") or (), found.get("modifies") or ()
    is_cut = int(found.get("totalFiles") or 0) > len(files[:SAMPLES])
    is_cut = is_cut or int(found.get("changed") or 0) > len(modifies[:SAMPLES])
    job = {
        "planId": plan.plan_id,
        "host": plan.host,
        "user": plan.user,
        "port": plan.port,
        "sourceDirs": plan.source_dirs,
        "destRoot": plan.dest_root,
        "ignoreGlobs": plan.ignore_globs,
        "layout": plan.layout,
        **{name: found[name] for name in _IN_JOB if name in found},
    }
    return BackupPlanned(
        plan_id=plan.plan_id,
        job=job,
        total_files=int(found.get("totalFiles") or 0),
        total_bytes=int(found.get("totalBytes") or 0),
        modifies=tuple(modifies)[:SAMPLES],
        files=tuple(files)[:SAMPLES],
        truncated=is_cut or None,
        request_id=request_id,
    )


def progress(plan_id: str, request_id: str | None, step: BackupStep) -> BackupProgress:
    """Return `backup_progress`."""
    return BackupProgress(
        plan_id=plan_id,
        file=step.file or "",
        op=step.op,
        percent=step.percent,
        transferred_bytes=step.done_bytes,
        total_bytes=step.total_bytes,
        files_completed=step.files,
        bytes_per_sec=None if step.bytes_per_s is None else round(step.bytes_per_s, 1),
        eta_sec=None if step.eta_s is None else round(step.eta_s, 1),
        name_b64=None if step.name is None else base64.b64encode(step.name).decode(),
        request_id=request_id,
    )


def ended(
    op: BackupOp, plan_id: str, request_id: str | None, result: BackupEnded
) -> BackupComplete | BackupFailed | BackupResult:
    """Return the one final of anything but a plan that was made."""
    if op not in ("plan", "run"):
        return answered(op, plan_id, request_id or "", result)
    if not result.ok:
        return failed(plan_id, request_id, result.error or "failed", result.detail)
    found = result.found
    errors = tuple(map(str, found.get("errors") or ()))
    return BackupComplete(
        plan_id=plan_id,
        ok=True,
        ms=result.duration_ms,
        transferred_bytes=int(found.get("transferredBytes") or 0),
        partial=True if found.get("partial") else None,
        skipped=int(found["skipped"]) if found.get("skipped") else None,
        errors=errors or None,
        files=int(found.get("files") or 0),
        planned_files=int(found.get("plannedFiles") or 0),
        request_id=request_id,
    )


def answered(op: BackupOp, plan_id: str, request_id: str, result: BackupEnded) -> BackupResult:
    """Return `backup_result` of an operation of `backup2`."""
    found: dict[str, Any] = dict(result.found)
    ok = result.ok and not (op == "verify" and found.get("different"))
    error = result.error
    if result.ok and not ok:
        error = "different"
    return BackupResult(
        request_id=request_id,
        plan_id=plan_id,
        ok=ok,
        error=error,
        detail=result.detail,
        result=found or None,
    )


def failed(
    plan_id: str, request_id: str | None, error: str, detail: str | None = None
) -> BackupFailed:
    """Return `backup_error`."""
    return BackupFailed(plan_id=plan_id, error=error, detail=detail, request_id=request_id)
