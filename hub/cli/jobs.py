"""Look at what machines were asked to do, and end it: ls, show, cancel.

Rules: everything that the hub sends over a live link is a job: commands of `exec`, crontabs, key
syncs, backups. What waits for its machine is upcoming; `cancel` ends it wherever it stands.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from hub.cli import exits, machines, output, waiting
from hub.cli.client import Client, reporting, segment
from hub.errors import CliError

PATH = "/api/v1/jobs"
STATES = ("queued", "sent", "running", "succeeded", "failed", "cancelled", "expired", "unknown")
Json = dict[str, Any]


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline jobs`."""
    chosen = _options(argv)
    words = {"ls": _list, "show": _show, "cancel": _cancel}
    return words[chosen.word](Client.from_login(), chosen)


def _list(client: Client, chosen: argparse.Namespace) -> int:
    query = {
        "asset_id": machines.find(client, chosen.agent) if chosen.agent else None,
        "kind": chosen.kind,
        "state": ["queued"] if chosen.upcoming else chosen.state,
        "limit": min(chosen.limit, 200),
    }
    found = list(itertools.islice(client.items(PATH, **query), chosen.limit))
    if output.wants_json(chosen):
        output.print_json(found)
        return exits.OK
    names = machines.names(client, (one["asset_id"] for one in found))
    rows = [
        (one["id"], names[one["asset_id"]], one["kind"], one["state"],
         one["created_at"], one["created_by"], _about(one))
        for one in found
    ]  # fmt: skip
    output.print_table(("ID", "AGENT", "KIND", "STATE", "ASKED", "BY", "ABOUT"), rows)
    return exits.OK


def _about(job: Json) -> str | None:
    """Return what tells one job from another, and why it ended as it did."""
    has_words = job["kind"] == "admin"  # a crontab's command is the crontab in base64
    asked = job["request"].get("command" if has_words else "user")
    return " · ".join(str(one) for one in (asked, job["error"]) if one) or None


def _show(client: Client, chosen: argparse.Namespace) -> int:
    job = client.get(f"{PATH}/{segment(chosen.id)}")
    if output.wants_json(chosen):
        output.print_json(job)
        return exits.OK
    request, result = job.pop("request"), job.pop("result") or {}
    output.print_fields(job.items())
    for head, told in (("request", request), ("result", result)):
        for name, value in told.items():
            print(f"  {head} {output.clean(name)}: {output.clean(value)}")
    return exits.OK


def _cancel(client: Client, chosen: argparse.Namespace) -> int:
    """Ask for the end of each; one that cannot be ended does not keep the others."""
    refused: list[CliError] = []
    for job_id in chosen.ids:
        try:
            job = client.post(f"{PATH}/{segment(job_id)}/cancel")
            job = job if chosen.no_wait else waiting.wait(client, job)
            output.note(f"{job_id} is {job['state']}")
        except CliError as error:
            output.note(f"{job_id}: {error}")
            refused.append(error)
    if not refused:
        return exits.OK
    return exits.PARTIAL if len(refused) < len(chosen.ids) else refused[0].exit_code


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("jobs", "Look at what machines were asked to do, and end it.")
    words = parser.add_subparsers(dest="word", required=True, metavar="ls|show|cancel")
    listed = words.add_parser("ls", help="jobs, newest first", allow_abbrev=False)
    listed.add_argument("agent", nargs="?", metavar="AGENT", help="of one machine")
    listed.add_argument("--upcoming", action="store_true", help="those that wait for their machine")
    listed.add_argument("--state", choices=STATES, action="append", help="may be given again")
    listed.add_argument("--kind", metavar="KIND", help="such as admin, cron_set, backup_run")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="default: 50")
    shown = words.add_parser("show", help="one job, with its result", allow_abbrev=False)
    shown.add_argument("id", metavar="ID")
    for one in (listed, shown):
        output.add_format(one)
    ended = words.add_parser("cancel", help="end jobs that have not ended", allow_abbrev=False)
    ended.add_argument("ids", nargs="+", metavar="ID")
    ended.add_argument("--no-wait", action="store_true", help="do not wait for the end")
    return parser.parse_args(argv)
