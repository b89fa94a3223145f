"""Plan, run, verify and restore backups on this machine, without a hub and without an agent.

Exit codes: 0 done; 1 failed; 2 usage; 3 done, but some files could not be copied, or differ; 4
there is no such plan or copy; 5 refused by policy; 75 a backup of it is running; 78 configuration.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from typing import Any

import msgspec

from agent import backup_jobs, config, dirs, exits
from agent.backup_store import Plan, Store, plan_of
from agent.cli import backup_admin, backup_progress, backup_show, output
from agent.errors import AgentError, BackupPlanError, DirectoryError, LocalWorkerError
from agent.settings import Options
from workers import backup_request, policy
from workers.errors import BackupError
from workers.messages_backup import BackupEnded, BackupOp, BackupSpec
from workers.policy import Policy, PolicyError, Sections

_CODES = {
    "policy_denied": exits.REFUSED,
    "locked_by_host": exits.REFUSED,
    "unknown_plan": exits.NOT_FOUND,
    "no_backup": exits.NOT_FOUND,
    "unknown_path": exits.NOT_FOUND,
    "no_manifest": exits.NOT_FOUND,
    "nothing_failed": exits.NOT_FOUND,
    "not_running": exits.NOT_FOUND,
    "unknown_schedule": exits.NOT_FOUND,
    "already_running": exits.TRY_LATER,
    "bad_glob": exits.USAGE,
    "bad_host": exits.USAGE,
    "bad_user": exits.USAGE,
    "bad_port": exits.USAGE,
    "bad_source": exits.USAGE,
    "bad_dest": exits.USAGE,
    "bad_path": exits.USAGE,
    "bad_schedule": exits.USAGE,
}


def run(argv: list[str]) -> int:
    """Carry out one verb of `jackline backup`."""
    options = _parser().parse_args(argv)
    as_json = output.wants_json(options)
    try:
        engine = _policy(options)
        store = Store(dirs.find().state)
        dirs.prepare(dirs.find().state)
        code: int = options.act(options, engine, store)
        return code
    except BackupError as e:
        return _refuse(e.reason, str(e), as_json=as_json)
    except BackupPlanError as e:
        return _refuse("unknown_plan", str(e), as_json=as_json)
    except (PolicyError, DirectoryError) as e:
        output.note(str(e))
        return exits.CONFIGURATION
    except (AgentError, OSError) as e:
        return _refuse("failed", str(e), as_json=as_json)


def _parser() -> argparse.ArgumentParser:
    parser = output.parser("backup", "Plan, run, verify and restore backups.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    plan = _add(verbs, "plan", _plan, "work out what a run would copy")
    plan.add_argument("--source", action="append", required=True, metavar="DIR")
    plan.add_argument("--dest", required=True, metavar="ROOT")
    plan.add_argument("--host", help="copy to this host, over ssh")
    plan.add_argument("--user")
    plan.add_argument("--port")
    plan.add_argument("--ignore", action="append", default=[], metavar="GLOB")
    plan.add_argument("--layout", choices=("mirror", "snapshot"))
    plan.add_argument("--id", help="a name for the plan; default: a random one")
    run_ = _add_plan(verbs, "run", _run, "run a plan")
    run_.add_argument("--limit", type=int, default=0, metavar="KIB/S", help="bandwidth limit")
    run_.add_argument("--retry", type=float, default=900.0, metavar="SECONDS")
    verify = _add_plan(verbs, "verify", _verify, "read a copy again and compare")
    verify.add_argument("--full", action="store_true", help="every file, not a sample")
    verify.add_argument("--snapshot", metavar="NAME")
    restore = _add_plan(verbs, "restore", _restore, "bring files back")
    restore.add_argument("--path", action="append", default=[], metavar="P")
    restore.add_argument("--to", metavar="DIR")
    restore.add_argument("--snapshot", metavar="NAME")
    restore.add_argument(
        "--failed", action="store_true", help="again what the last restore could not bring back"
    )
    restore.add_argument("--dry-run", action="store_true", help="only say what would happen")
    restore.add_argument("--yes", action="store_true", help="do not ask before overwriting")
    ls = _add(verbs, "ls", _ls, "list plans, a plan's copies, or what one holds")
    ls.add_argument("plan_id", nargs="?", metavar="PLAN_ID")
    ls.add_argument("--path", action="append", default=[], metavar="P")
    ls.add_argument("--snapshot", metavar="NAME")
    prune = _add_plan(verbs, "prune", _prune, "drop what backup.retention does not keep")
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    _add_plan(verbs, "cancel", backup_admin.cancel, "end what a plan is doing")
    trust = _add(verbs, "trust-host", backup_admin.trust_host, "show a host's key and pin it")
    trust.add_argument("host")
    trust.add_argument("--port", type=int, default=22)
    trust.add_argument("--yes", action="store_true", help="do not ask")
    backup_admin.add_schedule(_add(verbs, "schedule", backup_admin.schedule, "when plans run"))
    return parser


def _add(verbs: Any, verb: str, act: Any, about: str) -> argparse.ArgumentParser:
    one: argparse.ArgumentParser = verbs.add_parser(
        verb, help=about, description=about, allow_abbrev=False
    )
    output.add_format(one)
    one.add_argument("--config", metavar="FILE", help="the agent's configuration")
    one.set_defaults(act=act)
    return one


def _add_plan(verbs: Any, verb: str, act: Any, about: str) -> argparse.ArgumentParser:
    one = _add(verbs, verb, act, about)
    one.add_argument("plan_id", metavar="PLAN_ID")
    return one


def _policy(options: argparse.Namespace) -> Policy:
    """Read what the agent would read; without any configuration the defaults hold."""
    report = config.inspect(Options(config=options.config))
    if report.settings is not None:
        found = report.settings
        return policy.load(
            found.sections,
            found.policy_file,
            state_dir=found.dirs.state,
            origins=found.origins,
            tenant=policy.tenant_document(found.identity.policy if found.identity else None),
        )
    where = dirs.find()
    if report.config_file is None:
        return policy.load(Sections(), where.config / "policy.yaml", state_dir=where.state)
    raise PolicyError(
        [policy.PolicyFault(f.key, f.reason, f.value, f.source) for f in report.faults]
    )


# -- verbs --------------------------------------------------------------------------------------


def _plan(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    dest = options.dest if options.host else os.path.abspath(options.dest)
    request = backup_request.normalised(
        [os.path.abspath(each) for each in options.source],
        dest,
        options.host,
        options.user,
        options.port,
        options.ignore,
    )
    backup_request.check(request)
    refused = backup_jobs.refusal(engine, request)
    if refused is not None:
        raise refused
    plan_id = options.id or f"local-{secrets.token_hex(6)}"
    plan = plan_of(plan_id, request, options.layout or engine.sections.backup.layout)
    store.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    ended = _perform("plan", plan, options, engine, store)
    if not ended.ok:
        return _failed(ended, options)
    store.save(msgspec.structs.replace(plan, found=ended.found))
    if output.wants_json(options):
        output.print_json({"planId": plan_id, **ended.found})
    else:
        backup_show.plan(plan_id, ended.found)
    return exits.OK


def _run(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    plan = store.load(options.plan_id)
    refused = backup_jobs.refusal(engine, plan.request())
    if refused is not None:
        raise refused
    ended = _perform("run", plan, options, engine, store)
    if not ended.ok:
        return _failed(ended, options)
    found = {"planId": plan.plan_id, "ok": True, "ms": ended.duration_ms, **ended.found}
    if output.wants_json(options):
        output.print_json(found)
    else:
        backup_show.run(found)
    return exits.PARTIAL if found.get("partial") else exits.OK


def _verify(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    ended = _perform("verify", store.load(options.plan_id), options, engine, store)
    if not ended.ok:
        return _failed(ended, options)
    same = not ended.found.get("different")
    if output.wants_json(options):
        output.print_json({"planId": options.plan_id, "ok": same, **ended.found})
    else:
        backup_show.verify(ended.found)
    return exits.OK if same else exits.PARTIAL


def _restore(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    if options.failed and (options.path or options.to or options.snapshot):
        raise BackupError("bad_path", "--failed goes where the last restore went, alone")
    options.to = options.to and os.path.abspath(options.to)
    plan = store.load(options.plan_id)
    refused = _ask_before(options, plan, engine, store)
    if refused is not None:
        return refused
    ended = _perform("restore", plan, options, engine, store)
    if not ended.ok:
        return _failed(ended, options)
    if output.wants_json(options):
        output.print_json({"planId": plan.plan_id, "ok": True, **ended.found})
    else:
        backup_show.restore(ended.found)
    return exits.PARTIAL if ended.found.get("partial") else exits.OK


def _ask_before(
    options: argparse.Namespace, plan: Plan, engine: Policy, store: Store
) -> int | None:
    """Ask a person before files are overwritten; a script is told on standard error.

    Returns:
        None: go on; else the exit code: it was refused, or ended (Ctrl-C) while it looked.
    """
    if options.dry_run or options.yes:
        return None
    look = argparse.Namespace(**{**vars(options), "dry_run": True})
    ended = _perform("restore", plan, look, engine, store)
    if not ended.ok:
        return _failed(ended, options)
    count = int(ended.found.get("overwrites") or 0)
    if not count:
        return None
    names = ", ".join(map(str, ended.found.get("overwritten", [])[:3]))
    output.note(f"{count} file{'s' if count > 1 else ''} will be overwritten: {names} …")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    print("overwrite? [y/N] ", end="", file=sys.stderr, flush=True)
    return None if sys.stdin.readline().strip().lower() in ("y", "yes") else exits.REFUSED


def _ls(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    if options.plan_id is None:
        backup_show.plans(store, as_json=output.wants_json(options))
        return exits.OK
    ended = _perform("ls", store.load(options.plan_id), options, engine, store)
    if not ended.ok:
        return _failed(ended, options)
    if output.wants_json(options):
        output.print_json({"planId": options.plan_id, **ended.found})
    else:
        backup_show.copies(ended.found)
    return exits.OK


def _prune(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    ended = _perform("prune", store.load(options.plan_id), options, engine, store)
    if not ended.ok:
        return _failed(ended, options)
    if output.wants_json(options):
        output.print_json({"planId": options.plan_id, **ended.found})
    else:
        backup_show.pruned(ended.found)
    return exits.OK


# -- parts --------------------------------------------------------------------------------------


def _perform(
    op: BackupOp, plan: Plan, options: argparse.Namespace, engine: Policy, store: Store
) -> BackupEnded:
    from agent import local_worker

    refused = engine.locked()
    if refused is not None:
        raise BackupError("locked_by_host", refused.sentence)
    job = backup_jobs.job_of(
        plan, store, engine, limit_kib_s=max(0, getattr(options, "limit", 0) or 0)
    )
    spec = BackupSpec(
        op=op,
        job=job,
        total_files=int(plan.found.get("totalFiles") or 0),
        total_bytes=int(plan.found.get("totalBytes") or 0) if op == "run" else 0,
        retry_s=getattr(options, "retry", 900.0),
        full=getattr(options, "full", False),
        snapshot=getattr(options, "snapshot", None),
        paths=getattr(options, "path", []),
        to=getattr(options, "to", None),
        failed=getattr(options, "failed", False),
        dry_run=getattr(options, "dry_run", False),
    )
    run_dir = dirs.find().run
    dirs.prepare(run_dir)
    bar = backup_progress.ProgressBar()
    lease_s = None if op == "run" else 5.0
    try:
        result = local_worker.perform(
            "backup", spec, dirs.find().state, run_dir, bar.on_mail, lease_s
        )
    finally:
        bar.close()
    if not isinstance(result, BackupEnded):
        raise LocalWorkerError("its worker gave another result")
    return result


def _failed(ended: BackupEnded, options: argparse.Namespace) -> int:
    if not output.wants_json(options):
        backup_show.notes(ended.found)
    return _refuse(ended.error or "failed", ended.detail or "", as_json=output.wants_json(options))


def _refuse(reason: str, sentence: str, *, as_json: bool) -> int:
    if as_json:
        output.print_json({"ok": False, "error": reason, "message": sentence})
    output.note(f"{reason}: {sentence}" if sentence else reason)
    return _CODES.get(reason, exits.FAILED)
