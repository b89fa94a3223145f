"""Read and replace a machine's crontab: get, set, history, undo.

Rules: `get` reads the machine, unless `--known` asks for what the hub has; `set` shows the
difference to what the machine has now and asks, unless `--yes`; a crontab that was changed in
between is not overwritten.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hub.cli import exits, machines, output, waiting
from hub.cli.client import Client, confirm, reporting, segment
from hub.errors import CliError

Json = dict[str, Any]
MAX_BYTES = 1024 * 1024


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline cron`."""
    options = _options(argv)
    client = Client.from_login()
    path = f"/api/v1/agents/{segment(machines.find(client, options.agent))}/cron"
    words = {"get": _get, "set": _set, "history": _history, "undo": _undo}
    return words[options.word](client, path, options)


def _get(client: Client, path: str, options: argparse.Namespace) -> int:
    if not options.known:
        waiting.succeeded(client, client.post(f"{path}/read", {}))
    shown = client.get(path)
    if output.wants_json(options):
        output.print_json(shown)
    elif options.rows:
        _print_rows(shown["rows"])
    else:
        text = shown["text"]
        sys.stdout.write(output.clean_lines(text) if sys.stdout.isatty() else text)
    return exits.OK


def _set(client: Client, path: str, options: argparse.Namespace) -> int:
    text = _read(options.file)
    waiting.succeeded(client, client.post(f"{path}/read", {}))
    known = client.get(path)
    draft = client.post(f"{path}/diff", {"text": text})
    if not draft["diff"]:
        output.note("nothing would change")
        return exits.OK
    sys.stderr.write(output.clean_lines(draft["diff"]))
    for row in draft["rows"]:
        if row["kind"] == "fault":
            output.note(f"line {row['line']}: {row['fault']}")
    if not options.yes and not confirm("install it?"):
        raise CliError("not installed", exits.REFUSED)
    body = {"text": text, "expected": known["version"]["digest"]}
    return _ended(client, client.call("PUT", path, body=body), options)


def _history(client: Client, path: str, options: argparse.Namespace) -> int:
    found = list(client.items(f"{path}/history"))
    if output.wants_json(options):
        output.print_json(found)
    else:
        rows = [(one["id"], one["at"], one["origin"], one["made_by"]) for one in found]
        output.print_table(("VERSION", "AT", "ORIGIN", "BY"), rows)
    return exits.OK


def _undo(client: Client, path: str, options: argparse.Namespace) -> int:
    body = {"version_id": options.version} if options.version else {}
    return _ended(client, client.post(f"{path}/undo", body), options)


def _ended(client: Client, job: Json, options: argparse.Namespace) -> int:
    ended = waiting.succeeded(client, job)
    if output.wants_json(options):
        output.print_json(ended)
    else:
        output.note("installed")
    return exits.OK


def _print_rows(rows: list[Json]) -> None:
    table = []
    for row in rows:
        runs = row["next_runs"]
        zone = row["zone"] if row["zone_source"] != "unknown" else "UTC (machine's zone unknown)"
        said = row["words"] or row["fault"] or ""
        table.append((row["line"], said, row["command"], runs[0] if runs else None, zone))
    output.print_table(("LINE", "WHEN", "COMMAND", "NEXT", "ZONE"), table)


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read(MAX_BYTES) if file == "-" else Path(file).read_bytes()
        return data.decode()
    except (OSError, UnicodeError) as error:
        raise CliError(f"{file}: {error}", exits.USAGE) from error


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("cron", "Read and replace a machine's crontab.")
    words = parser.add_subparsers(dest="word", required=True, metavar="get|set|history|undo")
    get = words.add_parser("get", help="print the crontab", allow_abbrev=False)
    get.add_argument("--rows", action="store_true", help="in plain words, with the next runs")
    get.add_argument("--known", action="store_true", help="as the hub knows it, without asking")
    setting = words.add_parser("set", help="replace the crontab", allow_abbrev=False)
    setting.add_argument("--yes", action="store_true", help="do not ask")
    history = words.add_parser("history", help="list the versions", allow_abbrev=False)
    undo = words.add_parser("undo", help="install an earlier version", allow_abbrev=False)
    undo.add_argument("--version", metavar="ID", help="which; default: the one before the newest")
    for one in (get, setting, history, undo):
        one.add_argument("agent", metavar="AGENT", help="the machine's name or id")
        output.add_format(one)
    setting.add_argument("file", nargs="?", default="-", metavar="FILE", help="default: stdin")
    return parser.parse_args(argv)
