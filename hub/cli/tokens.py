"""API tokens of one's own: list, make, revoke (`jackline tokens`)."""

from __future__ import annotations

import argparse
from typing import Any

from hub.cli import exits, output
from hub.cli.client import Client, reporting, segment

ROLES = ("auditor", "operator", "tenant_admin", "system_admin")


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline tokens ls|create|revoke`."""
    options = _options(argv)
    client = Client.from_login()
    if options.word == "create":
        _create(client, options)
    elif options.word == "revoke":
        client.delete(f"/api/v1/tokens/{segment(options.id)}")
    else:
        _list(client, options)
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("tokens", "API tokens of one's own.")
    words = parser.add_subparsers(dest="word", required=True, metavar="ls|create|revoke")
    listed = words.add_parser("ls", help="list tokens")
    listed.add_argument("--all", action="store_true", help="everybody's, for an admin")
    create = words.add_parser("create", help="make a token and print it, once")
    create.add_argument("label", metavar="LABEL", help="what it is for")
    create.add_argument("--role", choices=ROLES, help="the most it may do; default: as you")
    create.add_argument("--days", type=int, default=90, metavar="N", help="its life; 0: for ever")
    create.add_argument("--quiet", action="store_true", help="print the token alone")
    words.add_parser("revoke", help="make a token worthless").add_argument("id", metavar="ID")
    for word in (listed, create):
        output.add_format(word)
    return parser.parse_args(argv)


def _create(client: Client, options: argparse.Namespace) -> None:
    body: dict[str, Any] = {"label": options.label, "expires_in_days": options.days or None}
    if options.role:
        body["role"] = options.role
    made = client.post("/api/v1/tokens", body)
    if options.quiet:
        print(made["token"])
    elif output.wants_json(options):
        output.print_json(made)
    else:
        names = ("id", "role", "expires_at", "token")
        output.print_fields((name, made[name]) for name in names)
        output.note("the token is not shown again")


def _list(client: Client, options: argparse.Namespace) -> None:
    found = list(client.items("/api/v1/tokens", everybodys=options.all or None))
    if output.wants_json(options):
        output.print_json(found)
        return
    head = ("ID", "LABEL", "ROLE", "CREATED", "EXPIRES")
    names = ("id", "label", "role", "created_at", "expires_at")
    output.print_table(head, [[one[name] for name in names] for one in found])
