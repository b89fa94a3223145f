"""Look at machines and decide about them: ls, show, approve, tag, revoke, workers, resolve, rm.

Rules: a machine is called by its id, its name or its client id; what cannot be taken back is asked
about on a terminal, and needs `--yes` elsewhere.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

from hub.cli import approvals, exits, output
from hub.cli.client import Client, confirm, reporting, segment
from hub.cli.machines import find
from hub.errors import CliError

PATH = "/api/v1/agents"
PRESENCES = ("online", "stale", "offline", "conflict")
SORTS = ("name", "presence", "seen", "version", "platform", "cpu", "mem", "disk", "rtt", "created")


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline agents`."""
    options = _options(argv)
    client = Client.from_login()
    job: Callable[[Client, argparse.Namespace], None] = options.job
    job(client, options)
    return exits.OK


def _ls(client: Client, options: argparse.Namespace) -> None:
    rows = client.items(
        PATH,
        q=options.search,
        presence=options.presence,
        tag=options.tag,
        credential=options.credential,
        sort=options.sort,
        order="desc" if options.desc else "asc",
        limit=min(options.limit, 200),
    )
    found = list(itertools.islice(rows, options.limit))
    if output.wants_json(options):
        output.print_json(found)
        return
    output.print_table(
        ("NAME", "STATE", "SEEN", "VERSION", "SYSTEM", "TAGS", "ID"), map(_row, found)
    )


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    state = one["presence"] if one["credential"] == "active" else one["credential"]
    system = " ".join(filter(None, (one["platform"], one["arch"]))) or None
    tags = ",".join(one["tags"]) or None
    return one["name"], state, one["seen_at"], one["version"], system, tags, one["asset_id"]


def _show(client: Client, options: argparse.Namespace) -> None:
    _print(client.get(f"{PATH}/{find(client, options.agent)}"), options)


def _approve(client: Client, options: argparse.Namespace) -> None:
    if approvals.is_code(options.agent):
        approvals.approve_code(client, options.agent, is_sure=options.yes)
    else:
        asset_id = find(client, options.agent)
        approvals.approve_machine(client, asset_id, is_sure=options.yes)
    output.note(f"{options.agent} is let in")


def _workers(client: Client, options: argparse.Namespace) -> None:
    path = f"{PATH}/{find(client, options.agent)}/workers"
    if options.restart is not None:
        client.post(f"{path}/{segment(options.restart)}/restart")
        output.note(f"{options.restart} is restarted")
        return
    rows = client.get(path)["items"]
    if output.wants_json(options):
        output.print_json(rows)
        return
    keys = ("id", "kind", "state", "pid", "job", "memory_bytes", "uptime_s")
    output.print_table(
        ("ID", "KIND", "STATE", "PID", "JOB", "MEMORY", "UP"),
        ([row[key] for key in keys] for row in rows),
    )


def _resolve(client: Client, options: argparse.Namespace) -> None:
    client.post(f"{PATH}/{find(client, options.agent)}/resolve")
    output.note(f"{options.agent}: the next machine that comes is the one")


def _revoke(client: Client, options: argparse.Namespace) -> None:
    if options.waiting:
        path = f"{PATH}/{find(client, options.agent)}/revoke"
        client.call("POST", path, query={"waiting": "true"})
        output.note(f"{options.agent}: what waited is turned away")
        return
    _sure(options, f"Revoke {options.agent}? It must be enrolled again.")
    client.post(f"{PATH}/{find(client, options.agent)}/revoke")
    output.note(f"{options.agent} is revoked")


def _rm(client: Client, options: argparse.Namespace) -> None:
    _sure(options, f"Forget {options.agent}? Its credential ends, too.")
    client.delete(f"{PATH}/{find(client, options.agent)}")
    output.note(f"{options.agent} is forgotten")


def _tag(client: Client, options: argparse.Namespace) -> None:
    asset_id = find(client, options.agent)
    tags = set(client.get(f"{PATH}/{asset_id}")["tags"])
    tags = (tags | set(options.tags)) - set(options.remove)
    _print(client.put(f"{PATH}/{asset_id}/tags", {"tags": sorted(tags)}), options)


def _print(one: dict[str, Any], options: argparse.Namespace) -> None:
    if output.wants_json(options):
        output.print_json(one)
        return
    link = one.pop("link") or {}
    one.pop("sample")
    shown = {**one, "tags": ",".join(one["tags"]) or None}
    if link:
        features = link["features"]
        shown["linked since"] = link["connected_at"]
        shown["from"] = link["address"]
        shown["features"] = "foreign" if features is None else " ".join(features)
    output.print_fields(shown.items())


def _sure(options: argparse.Namespace, question: str) -> None:
    if not options.yes and not confirm(question):
        raise CliError("not done; say --yes", exits.USAGE)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("agents", "Look at machines and decide about them.")
    words = parser.add_subparsers(required=True, metavar="WORD")
    ls = words.add_parser("ls", help="list them")
    ls.set_defaults(job=_ls)
    ls.add_argument("--search", metavar="TEXT", help="anywhere in name, id, system, version, tags")
    ls.add_argument("--presence", choices=PRESENCES, action="append", help="may be given again")
    ls.add_argument("--tag", action="append", metavar="TAG", help="given again: all must be there")
    ls.add_argument("--credential", choices=("pending", "active", "revoked"))
    ls.add_argument("--sort", choices=SORTS, default="name")
    ls.add_argument("--desc", action="store_true", help="the other way round")
    ls.add_argument("--limit", type=int, default=1000, metavar="N", help="default: 1000")
    output.add_format(ls)
    _word(words, "show", _show, "show one, with its link")
    pending = words.add_parser("pending", help="those that wait, with address and key")
    pending.set_defaults(job=approvals.show_pending)
    output.add_format(pending)
    approve = _word(words, "approve", _approve, "let one in that waits, or that shows a code")
    approve.add_argument("--yes", action="store_true", help="do not ask")
    tag = _word(words, "tag", _tag, "add tags, and take them off")
    tag.add_argument("tags", nargs="*", metavar="TAG")
    tag.add_argument("--remove", action="append", default=[], metavar="TAG", help="take one off")
    _word(words, "resolve", _resolve, "end an identity conflict")
    workers = _word(words, "workers", _workers, "list its workers, restart one")
    workers.add_argument("--restart", metavar="ID", help="restart this one")
    revoke = _word(words, "revoke", _revoke, "end its credential and cut its link")
    revoke.add_argument("--waiting", action="store_true", help="only one that waits for approval")
    for word in (revoke, _word(words, "rm", _rm, "forget it")):
        word.add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args(argv)


def _word(
    words: Any, name: str, job: Callable[[Client, argparse.Namespace], None], about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = words.add_parser(name, help=about)
    parser.set_defaults(job=job)
    parser.add_argument("agent", metavar="AGENT", help="id, name or client id")
    output.add_format(parser)
    return parser
