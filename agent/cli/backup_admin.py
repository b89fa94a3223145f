"""The verbs of `jackline backup` that need no worker: cancel, trust-host, schedule."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agent import exits
from agent.backup_schedules import Schedule, Schedules, from_config, next_s
from agent.backup_store import Store
from agent.cli import output
from agent.clock import wall_ms
from workers import backup_request, backup_state, processes
from workers.backup_request import Request
from workers.errors import BackupError
from workers.policy import Policy

CANCEL_S = 15.0
_SCAN_S = 15


def cancel(options: argparse.Namespace, _engine: Policy, store: Store) -> int:
    """End everything that is done for a plan, and return when it has ended."""
    asked = backup_state.ask_to_cancel(store.folder(options.plan_id))
    if not asked:
        store.load(options.plan_id)
        raise BackupError("not_running", f"nothing runs for the plan {options.plan_id!r}")
    end = time.monotonic() + CANCEL_S
    while any(map(processes.is_alive, asked)):
        if time.monotonic() > end:
            output.note("it does not end: look for what hangs in the kernel")
            return exits.FAILED
        time.sleep(0.05)
    print("cancelled")
    return exits.OK


# -- trust-host ---------------------------------------------------------------------------------


def trust_host(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    """Fetch a host's keys, show their fingerprints, and pin them once a person agrees."""
    probe = Request(sources=("/a/b",), dest_root="/a/c", host=options.host)
    backup_request.check(probe)
    keys = _scanned(options.host, options.port)
    for line in _program("ssh-keygen", "-l", "-f", "-", stdin=keys).splitlines():
        print(output.clean(line))
    if not options.yes:
        if not sys.stdin.isatty():
            output.note("not pinned: compare the fingerprints, then add --yes")
            return exits.REFUSED
        print("pin these keys? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return exits.REFUSED
    named = engine.sections.backup.ssh.known_hosts_file
    path = Path(named) if named else store.root / "known_hosts"
    _pin(path, options.host, options.port, keys)
    print(f"pinned in {path}")
    return exits.OK


def _scanned(host: str, port: int) -> str:
    text = _program("ssh-keyscan", "-T", str(_SCAN_S), "-p", str(port), "--", host)
    keys = [line for line in text.splitlines() if line and not line.startswith("#")]
    if not keys:
        raise BackupError("ssh", f"{host} port {port} shows no key")
    return "\n".join(keys) + "\n"


def _pin(path: Path, host: str, port: int, keys: str) -> None:
    """Put the keys in place of any that were known for the same host and port."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = host if port == 22 else f"[{host}]:{port}"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = [line for line in old.splitlines() if line.split(" ")[0] != name]
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in kept) + keys)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _program(name: str, *words: str, stdin: str = "") -> str:
    path = shutil.which(name)
    if path is None:
        raise BackupError("no_ssh", f"this machine has no {name}: install ssh's client")
    done = subprocess.run(
        [path, *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_SCAN_S * 4,
        check=False,
        errors="replace",
    )
    return done.stdout


# -- schedule -----------------------------------------------------------------------------------


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Give `schedule` its own verbs."""
    verbs = parser.add_subparsers(dest="schedule_verb", required=True)
    ls = verbs.add_parser("ls", help="list schedules", allow_abbrev=False)
    output.add_format(ls)
    add = verbs.add_parser("add", help="run a plan by a cron line", allow_abbrev=False)
    add.add_argument("plan_id", metavar="PLAN_ID")
    add.add_argument("--cron", required=True, metavar="LINE", help="e.g. '30 2 * * *'")
    add.add_argument("--tz", default="UTC", metavar="ZONE", help="e.g. Europe/Vienna")
    add.add_argument("--id", help="its name; default: the plan's")
    rm = verbs.add_parser("rm", help="remove a schedule", allow_abbrev=False)
    rm.add_argument("id", metavar="ID")


def schedule(options: argparse.Namespace, engine: Policy, store: Store) -> int:
    """List, add or remove a schedule; a running agent takes it up by itself."""
    kept = Schedules(store.root, from_config(engine.sections.backup.schedules or ()))
    kept.refuse_damage()
    known = kept.written()
    if options.schedule_verb == "ls":
        _show(kept, kept.read(), as_json=output.wants_json(options))
        return exits.OK
    if options.schedule_verb == "rm":
        left = [each for each in known if each.id != options.id]
        if len(left) == len(known):
            cure = ": take it out of backup.schedules" if options.id in kept.fixed else ""
            raise BackupError(
                "unknown_schedule", f"no schedule here is called {options.id!r}{cure}"
            )
        kept.write(left, wall_ms() / 1000)
        return exits.OK
    plan = store.load(options.plan_id)
    name = options.id or plan.plan_id
    if re.search(r"[\x00-\x1f]", name):
        raise BackupError("bad_schedule", "a schedule's name holds no control characters")
    fresh = Schedule(id=name, plan_id=plan.plan_id, cron=options.cron, tz=options.tz)
    if name in kept.fixed:
        raise BackupError("bad_schedule", f"{name!r} is in backup.schedules: change it there")
    kept.write([*(each for each in known if each.id != name), fresh], wall_ms() / 1000)
    print(name)
    return exits.OK


def _show(kept: Schedules, known: list[Schedule], *, as_json: bool) -> None:
    now_s = wall_ms() / 1000
    moments = kept.moments().items()
    starts = {name: each.start_s for name, each in moments if each.start_s > each.since_s}
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "planId": each.plan_id,
            "cron": each.cron,
            "tz": each.tz,
            "enabled": each.enabled,
            "next": _moment(next_s(each, now_s)),
            "lastStart": _moment(starts.get(each.id)),
            "by": each.by,
        }
        for each in known
    ]
    if as_json:
        output.print_json(rows)
    else:
        head = ("ID", "PLAN", "CRON", "ZONE", "ENABLED", "NEXT (UTC)", "LAST START (UTC)", "SET BY")
        output.print_table(head, [tuple(row.values()) for row in rows])


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))
