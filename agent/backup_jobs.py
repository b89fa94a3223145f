"""From a plan, the machine's configuration and its policy to what a worker is told.

Source: contract 1.5, part 3 `backup`.
"""

from __future__ import annotations

import os

from agent.backup_store import Plan, Store
from agent.backup_tasks import Task
from workers.backup_request import Request
from workers.errors import BackupError
from workers.messages_backup import BackupJob, BackupSpec
from workers.policy import Policy

# Where programs are looked for when the environment says nothing.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def refusal(policy: Policy, request: Request) -> BackupError | None:
    """Return why this machine's policy refuses a request, or None."""
    asked = [(source, "allowedSourceRoots") for source in request.sources]
    for path, roots in (*asked, (request.dest_root, "allowedDestRoots")):
        verdict = policy.backup(path, roots)
        if not verdict.allowed:
            return BackupError(verdict.reason, verdict.sentence)
    return None


def spec_of(task: Task, store: Store, policy: Policy) -> BackupSpec:
    """Return what the worker of a task is told."""
    plan = task.plan
    return BackupSpec(
        op=task.op,
        job=job_of(plan, store, policy),
        total_files=int(plan.found.get("totalFiles") or 0),
        total_bytes=int(plan.found.get("totalBytes") or 0) if task.op == "run" else 0,
        **task.args,
    )


def job_of(plan: Plan, store: Store, policy: Policy, *, limit_kib_s: int = 0) -> BackupJob:
    """Return the job; layout is the plan's, deletions and ssh files the machine owner's.

    Args:
        limit_kib_s: wins over the owner's; 0: the owner's.
    """
    section = policy.sections.backup
    return BackupJob(
        plan_id=plan.plan_id,
        folder=str(store.folder(plan.plan_id)),
        sources=plan.source_dirs,
        dest_root=plan.dest_root,
        host=plan.host,
        user=plan.user,
        port=plan.port,
        globs=[*policy.backup_excludes(), *plan.ignore_globs],
        layout=plan.layout,
        delete=section.delete,
        one_file_system=section.one_file_system,
        limit_kib_s=limit_kib_s or max(0, section.limit_kib_per_sec),
        identity_file=section.ssh.identity_file,
        known_hosts_file=section.ssh.known_hosts_file,
        config_file=section.ssh.config_file,
        source_roots=policy.backup_roots("allowedSourceRoots"),
        dest_roots=policy.backup_roots("allowedDestRoots"),
        restore_roots=policy.backup_roots("allowedRestoreRoots"),
        retention=section.retention or {},
        hooks=section.hooks or {},
        commands=section.sources or [],
        search_path=os.environ.get("PATH") or DEFAULT_PATH,
    )
