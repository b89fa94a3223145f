"""Back machines up: plan, approve, run, verify and restore (`jackline backups`).

Rules: results on stdout, progress on stderr; a word that starts something waits for its end unless
`--no-wait` is said, and a run's exit code tells partial (3) from failed (1). A plan is called by
its name, its id, or the beginning of its id.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from typing import Any

from hub.cli import exits, machines, output, waiting
from hub.cli.client import Client, confirm, reporting, segment
from hub.clock import iso
from hub.errors import CliError

GOES_ON = "it goes on; `jackline backups cancel` ends it"
Json = dict[str, Any]


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline backups WORD AGENT ...`."""
    chosen = _options(argv)
    client = Client.from_login()
    asset_id = machines.find(client, chosen.agent)
    words = {
        "ls": _list, "plan": _plan, "approve": _approve, "run": _run, "status": _status,
        "cancel": _cancel, "verify": _verify, "restore": _restore, "schedules": _schedules,
        "rm": _remove,
    }  # fmt: skip
    return words[chosen.word](client, chosen, f"/api/v1/agents/{segment(asset_id)}")


# -- words ---------------------------------------------------------------------------------------


def _list(client: Client, chosen: argparse.Namespace, base: str) -> int:
    if chosen.plan is not None:
        return _list_copies(client, chosen, base)
    found = client.get(f"{base}/backups")
    if output.wants_json(chosen):
        output.print_json(found)
        return exits.OK
    rows = [
        (one["id"], one["name"], one["doing"] or one["standing"], one["last_success_at"],
         one["verified_at"], one["dest_root"] if one["host"] is None
         else f"{one['host']}:{one['dest_root']}")
        for one in found["items"]
    ]  # fmt: skip
    output.print_table(("ID", "NAME", "STATE", "LAST SUCCESS", "VERIFIED", "TO"), rows)
    output.note(found["sentence"])
    return exits.OK


def _list_copies(client: Client, chosen: argparse.Namespace, base: str) -> int:
    body = {"snapshot": chosen.snapshot, "path": chosen.path}
    job = _done(client, chosen, _post(client, base, chosen, "ls", body))
    found = (job["result"] or {}).get("result") or {}
    if output.wants_json(chosen):
        output.print_json(found)
    elif "entries" in found:
        rows = [(one["size"], one["mtime"], one["path"]) for one in found["entries"]]
        output.print_table(("SIZE", "CHANGED", "PATH"), rows)
    else:
        runs = [
            (one["seq"], one["snapshot"], _stamp(one["endedAt"]), one["files"],
             _size(one["bytes"]), "partial" if one["partial"] else "whole")
            for one in found.get("runs", ())
        ]  # fmt: skip
        output.print_table(("RUN", "SNAPSHOT", "ENDED", "FILES", "SIZE", "STATE"), runs)
    return _ended(job)


def _stamp(seconds: float | None) -> str | None:
    return None if seconds is None else iso(round(seconds * 1000))


def _plan(client: Client, chosen: argparse.Namespace, base: str) -> int:
    if chosen.again is not None:
        plan_id = _plan_id(client, base, chosen.again)
        job = client.post(f"{base}/backups/{plan_id}/plan", _timing(chosen))
    else:
        made = client.post(f"{base}/backups", _described(chosen), key=secrets.token_hex(16))
        plan_id, job = made["id"], made["job"]
    if job is None:
        _refuse_unplanned(client.get(f"{base}/backups/{plan_id}"))
    elif not chosen.no_wait:
        _done(client, chosen, job)
    return _show(client, chosen, base, plan_id)


def _refuse_unplanned(plan: Json) -> None:
    """Say why there is nothing to wait for, unless it is that the plan was made already."""
    if plan["found"] is None:
        error = plan["plan_error"] or "skipped"
        detail = plan["plan_detail"] or "the machine is not linked"
        raise waiting.failed({"result": {"detail": detail}, "error": error, "state": error})


def _approve(client: Client, chosen: argparse.Namespace, base: str) -> int:
    plan_id = _plan_id(client, base, chosen.plan)
    version = client.get(f"{base}/backups/{plan_id}")["version"]
    client.post(f"{base}/backups/{plan_id}/approve", {"version": version})
    return _show(client, chosen, base, plan_id)


def _run(client: Client, chosen: argparse.Namespace, base: str) -> int:
    job = _done(client, chosen, _post(client, base, chosen, "run", {}))
    return _told(chosen, job)


def _status(client: Client, chosen: argparse.Namespace, base: str) -> int:
    plan_id = _plan_id(client, base, chosen.plan)
    return _show(client, chosen, base, plan_id)


def _cancel(client: Client, chosen: argparse.Namespace, base: str) -> int:
    plan_id = _plan_id(client, base, chosen.plan)
    job = client.post(f"{base}/backups/{plan_id}/cancel")
    if not chosen.no_wait:
        job = _wait(client, job)
    if output.wants_json(chosen):
        output.print_json(job)
    return exits.OK


def _remove(client: Client, chosen: argparse.Namespace, base: str) -> int:
    """Forget a backup: its copies stay where they are."""
    if not chosen.yes and not confirm(f"Forget {chosen.plan}? Its copies stay."):
        raise CliError("not done; say --yes", exits.USAGE)
    client.delete(f"{base}/backups/{_plan_id(client, base, chosen.plan)}")
    output.note(f"{chosen.plan} is forgotten; its copies stay")
    return exits.OK


def _verify(client: Client, chosen: argparse.Namespace, base: str) -> int:
    body = {"full": chosen.full, "snapshot": chosen.snapshot}
    return _told(chosen, _done(client, chosen, _post(client, base, chosen, "verify", body)))


def _restore(client: Client, chosen: argparse.Namespace, base: str) -> int:
    body = {"paths": chosen.path, "to": chosen.to, "snapshot": chosen.snapshot}
    return _told(chosen, _done(client, chosen, _post(client, base, chosen, "restore", body)))


def _schedules(client: Client, chosen: argparse.Namespace, base: str) -> int:
    path = f"{base}/backup-schedules"
    if chosen.set is not None or chosen.remove is not None:
        _set_schedules(client, chosen, base)
    else:
        _done(client, chosen, client.post(f"{path}/read", {"when_offline": "fail"}))
    found = client.get(path)
    if output.wants_json(chosen):
        output.print_json(found)
        return exits.OK
    rows = [
        (one["id"], one["plan_id"], one["cron"], one["tz"], "on" if one["enabled"] else "off",
         next(iter(one["next_runs"]), None))
        for one in found["schedules"]
    ]  # fmt: skip
    output.print_table(("ID", "BACKUP", "CRON", "ZONE", "STATE", "NEXT"), rows)
    return exits.OK


def _set_schedules(client: Client, chosen: argparse.Namespace, base: str) -> None:
    """Read what there is, change one of it, and set it all: the contract replaces the whole."""
    path = f"{base}/backup-schedules"
    _done(client, chosen, client.post(f"{path}/read", {"when_offline": "fail"}))
    kept = [
        {name: one[name] for name in ("id", "plan_id", "cron", "tz", "enabled")}
        for one in client.get(path)["schedules"]
        if one["id"] not in (chosen.set, chosen.remove)
    ]
    if chosen.set is not None:
        if chosen.plan is None or chosen.cron is None:
            raise CliError("--set needs --plan and --cron", exits.USAGE)
        plan_id = _plan_id(client, base, chosen.plan)
        kept.append({"id": chosen.set, "plan_id": plan_id, "cron": chosen.cron, "tz": chosen.tz})
    _done(client, chosen, client.put(path, {"schedules": kept, "when_offline": "fail"}))


# -- jobs ----------------------------------------------------------------------------------------


def _post(client: Client, base: str, chosen: argparse.Namespace, word: str, body: Json) -> Json:
    plan_id = _plan_id(client, base, chosen.plan)
    given = {name: value for name, value in body.items() if value is not None}
    found: Json = client.post(
        f"{base}/backups/{plan_id}/{word}", given | _timing(chosen), key=secrets.token_hex(16)
    )
    return found


def _done(client: Client, chosen: argparse.Namespace, job: Json) -> Json:
    """Wait for a job; one that did not succeed is an error, but for a copy that differs."""
    if getattr(chosen, "no_wait", False):
        return job
    ended = _wait(client, job)
    if ended["state"] == "succeeded" or ended["error"] == "different":
        return ended
    raise waiting.failed(ended)


def _wait(client: Client, job: Json) -> Json:
    """Wait for a job and show how far it is; Ctrl-C leaves it alone."""
    plan_id = job["request"].get("plan_id")
    path = f"/api/v1/agents/{segment(job['asset_id'])}/backups/{segment(str(plan_id))}"
    line = ""

    def show(now: Json) -> None:
        nonlocal line
        if now["state"] == "running" and plan_id is not None and sys.stderr.isatty():
            line = _progress(client.get(path)["progress"], line)

    try:
        return waiting.wait(client, job, on_look=show, goes_on=GOES_ON)
    finally:
        if line:
            print(file=sys.stderr)


def _progress(found: Json | None, before: str) -> str:
    if found is None:
        return before
    rate = found["bytes_per_sec"]
    parts = [
        f"{found['percent']:.0f} %",
        f"{_size(found['transferred_bytes'])} of {_size(found['total_bytes'])}",
        f"{_size(rate)}/s" if rate is not None else None,
        f"{found['eta_sec']:.0f} s left" if found["eta_sec"] is not None else None,
        output.clean(found["file"] or "")[-40:],
    ]
    line = " · ".join(part for part in parts if part)
    print(f"\r{line.ljust(len(before))}", end="", file=sys.stderr, flush=True)
    return line


def _told(chosen: argparse.Namespace, job: Json) -> int:
    if output.wants_json(chosen):
        output.print_json(job)
    else:
        result = job["result"] or {}
        told = {**result, **(result.get("result") or {})}
        output.print_fields(
            (_words(name), value)
            for name, value in (("state", job["state"]), *told.items())
            if isinstance(value, str | int | float)
        )
        for one in told.get("differences") or ():
            print(f"  {output.clean(one['path'])}: {output.clean(one['what'])}")
    return _ended(job)


def _words(name: str) -> str:
    """Write `checkedFiles` and `planned_files` as people would."""
    return re.sub("([A-Z])", r" \1", name).lower().replace("_", " ")


def _ended(job: Json) -> int:
    result = job["result"] or {}
    if job["error"] == "different":
        return exits.FAILED
    is_partial = result.get("partial") or (result.get("result") or {}).get("partial")
    return exits.PARTIAL if is_partial else exits.OK


def _show(client: Client, chosen: argparse.Namespace, base: str, plan_id: str) -> int:
    one = client.get(f"{base}/backups/{plan_id}")
    if output.wants_json(chosen):
        output.print_json(one)
        return exits.OK
    found = one["found"] or {}
    shown = ("total_files", "total_bytes", "new", "changed", "deleted", "unchanged")
    output.print_fields(
        [
            ("id", one["id"]), ("name", one["name"]), ("state", one["doing"] or one["standing"]),
            ("said", one["sentence"]), ("from", ", ".join(one["source_dirs"])),
            ("to", one["dest_root"]), ("host", one["host"]),
            *((name.replace("_", " "), found.get(name)) for name in shown),
            ("approved by", one["approved_by"]), ("last run", one["last_run_at"]),
            ("last success", one["last_success_at"]), ("verified", one["verified_at"]),
        ]
    )  # fmt: skip
    return exits.OK


def _plan_id(client: Client, base: str, called: str) -> str:
    items = client.get(f"{base}/backups")["items"]
    found = [one["id"] for one in items if called in (one["id"], one["name"])]
    found = found or [one["id"] for one in items if one["id"].startswith(called)]
    if len(found) != 1:
        said = "several backups are" if found else "no backup is"
        raise CliError(f"{said} called {called}", exits.USAGE if found else exits.NOT_FOUND)
    return str(found[0])


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.1f} TiB"


# -- options -------------------------------------------------------------------------------------


def _described(chosen: argparse.Namespace) -> Json:
    if not chosen.source or chosen.dest is None:
        raise CliError("a backup needs --source and --dest", exits.USAGE)
    said = {
        "name": chosen.name, "source_dirs": chosen.source, "dest_root": chosen.dest,
        "host": chosen.host, "user": chosen.user, "port": chosen.port,
        "ignore_globs": chosen.ignore, "layout": chosen.layout,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None} | _timing(chosen)


def _timing(chosen: argparse.Namespace) -> Json:
    given: Json = {"when_offline": chosen.when_offline}
    if chosen.expires_in is not None:
        given["expires_in"] = chosen.expires_in
    return given


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("backups", "Back machines up.")
    words = parser.add_subparsers(dest="word", required=True, metavar="WORD")
    _add_ls(_word(words, "ls", "list backups, or what a copy holds", plan="?"))
    _add_plan(_word(words, "plan", "say what a run would copy", plan=None))
    _word(words, "approve", "let a backup be run as it was planned")
    _word(words, "run", "run an approved backup")
    _word(words, "status", "show one backup")
    _word(words, "cancel", "end what is under way")
    verify = _word(words, "verify", "read the copy again")
    verify.add_argument("--full", action="store_true", help="every byte, not a sample")
    verify.add_argument("--snapshot", metavar="NAME", help="default: the newest")
    restore = _word(words, "restore", "copy back")
    restore.add_argument("--path", action="append", default=[], metavar="P", help="default: all")
    restore.add_argument("--to", metavar="DIR", help="default: where it was")
    restore.add_argument("--snapshot", metavar="NAME", help="default: the newest")
    forgotten = _word(words, "rm", "forget a backup; its copies stay")
    forgotten.add_argument("--yes", action="store_true", help="do not ask")
    _add_schedules(_word(words, "schedules", "show or change what runs by itself", plan=None))
    return parser.parse_args(argv)


def _word(words: Any, name: str, about: str, plan: str | None = "one") -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = words.add_parser(name, help=about, description=about)
    made.add_argument("agent", metavar="AGENT", help="name, client id or id")
    if plan is not None:
        made.add_argument("plan", metavar="BACKUP", nargs=None if plan == "one" else plan)
    output.add_format(made)
    made.add_argument("--no-wait", action="store_true", help="do not wait for the end")
    made.add_argument("--when-offline", choices=("queue", "skip", "fail"), default="queue")
    made.add_argument("--expires-in", type=int, metavar="SECONDS")
    return made


def _add_ls(to: argparse.ArgumentParser) -> None:
    to.add_argument("--snapshot", metavar="NAME")
    to.add_argument("--path", metavar="P", help="as `NAME/below/it`")


def _add_plan(to: argparse.ArgumentParser) -> None:
    to.add_argument("--again", metavar="BACKUP", help="plan a known backup anew")
    to.add_argument("--name", metavar="NAME")
    to.add_argument("--source", action="append", metavar="DIR")
    to.add_argument("--dest", metavar="ROOT")
    to.add_argument("--host", metavar="H", help="default: a copy on the machine itself")
    to.add_argument("--user", metavar="U")
    to.add_argument("--port", type=int, metavar="P")
    to.add_argument("--ignore", action="append", metavar="GLOB")
    to.add_argument("--layout", choices=("mirror", "snapshot"), help="default: the machine's own")


def _add_schedules(to: argparse.ArgumentParser) -> None:
    to.add_argument("--set", metavar="ID", help="add a schedule or replace it")
    to.add_argument("--remove", metavar="ID")
    to.add_argument("--plan", metavar="BACKUP")
    to.add_argument("--cron", metavar="LINE", help="such as '30 2 * * *'")
    to.add_argument("--tz", default="UTC", metavar="ZONE", help="such as Europe/Berlin")
