"""Sync a GitHub user's public keys to a machine, after a look at what that changes.

Rules: what cannot be known is said: a machine that does not let the hub read its file gets a list
of the user's keys, and no more.
"""

from __future__ import annotations

import argparse
from typing import Any

from hub.cli import exits, machines, output, waiting
from hub.cli.client import Client, confirm, reporting, segment
from hub.errors import CliError

_FATES = {"add": "is added", "present": "is there", "unknown": "not known", "stale": "is stale"}


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline keys`."""
    options = _options(argv)
    client = Client.from_login()
    path = f"/api/v1/agents/{segment(machines.find(client, options.agent))}/keys"
    body = {"user": options.user, "when_offline": options.when_offline}
    if options.word == "preview" or not options.yes:
        found = waiting.succeeded(client, client.post(f"{path}/preview", body))["result"]["preview"]
        if options.word == "preview" and output.wants_json(options):
            output.print_json(found)
            return exits.OK
        _print(found)
        if options.word == "preview":
            return exits.OK
        if not confirm("sync?"):
            raise CliError("not synced; --yes syncs without asking", exits.REFUSED)
    ended = waiting.succeeded(client, client.post(f"{path}/sync", body))
    if output.wants_json(options):
        output.print_json(ended)
    else:
        result = ended["result"]
        output.note(f"{result['added']} added, {result.get('removed', 0)} removed")
        if result.get("warn"):
            output.note(f"{result['warn']}: {result.get('detail', '')}")
    return exits.OK


def _print(found: dict[str, Any]) -> None:
    rows = [(key["algorithm"], key["fingerprint"], _FATES[key["fate"]]) for key in found["keys"]]
    rows += [(key["algorithm"], key["fingerprint"], _FATES["stale"]) for key in found["stale"]]
    output.print_table(("TYPE", "FINGERPRINT", "ON THE MACHINE"), rows)
    if found["reason"]:
        output.note(found["reason"])
    if found["stale"]:
        output.note("stale keys go only where the machine's keys.mode is mirror")


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("keys", "Sync a GitHub user's public keys to a machine.")
    words = parser.add_subparsers(dest="word", required=True, metavar="preview|sync")
    preview = words.add_parser("preview", help="what would change", allow_abbrev=False)
    sync = words.add_parser("sync", help="change it", allow_abbrev=False)
    sync.add_argument("--yes", action="store_true", help="do not ask")
    for one in (preview, sync):
        one.add_argument("agent", metavar="AGENT", help="the machine's name or id")
        one.add_argument("--user", required=True, metavar="LOGIN", help="at GitHub")
        one.add_argument(
            "--when-offline",
            choices=("queue", "skip", "fail"),
            default="queue",
            help="what to do when the machine is not linked (default: queue)",
        )
        output.add_format(one)
    return parser.parse_args(argv)
