"""Enrolment tokens on the hub's own machine: make, list, revoke."""

from __future__ import annotations

import argparse
import re
import sys

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.audit import service as audit
from hub.cli import exits, options
from hub.clock import iso, now_ms
from hub.errors import NotFoundError
from hub.heartbeat import enrolment_tokens
from hub.heartbeat.enrolment_tokens import Wanted
from hub.heartbeat.models import EnrolmentToken
from hub.operators import service
from wire import enroltoken

_LIFE = re.compile(r"([0-9]{1,7})([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def run(argv: list[str]) -> int:
    """Run `jackline hub token create|ls|revoke`.

    Raises:
        SettingsError: the hub is not set up; HubError: no such tenant or token.
    """
    chosen = _options(argv)
    with options.opened(chosen) as hub:
        if chosen.word == "create":
            return _create(hub, chosen)
        if chosen.word == "revoke":
            hub.database.write_now(
                None, lambda session: enrolment_tokens.revoke(session, audit.SYSTEM, chosen.id)
            )
            return exits.OK
        return _list(hub)


def life_s(text: str) -> int:
    """Read how long a token shall be good: `90`, `30m`, `24h`, `7d`."""
    found = _LIFE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: a number with s, m, h or d, such as 24h")
    return int(found[1]) * _UNITS[found[2]]


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("token", "Enrolment tokens: each lets machines in.")
    words = parser.add_subparsers(dest="word", required=True, metavar="create|ls|revoke")
    create = words.add_parser("create", help="make a token and print it, once")
    create.add_argument("--tenant", default=service.DEFAULT_TENANT, metavar="T", help="whose")
    create.add_argument("--uses", type=int, default=1, metavar="N", help="machines; default 1")
    create.add_argument("--expires", type=life_s, default=86_400, metavar="24h", help="its life")
    create.add_argument("--tags", default="", metavar="A,B", help="tags of the machines")
    create.add_argument("--label", default="", metavar="TEXT", help="what it is for")
    create.add_argument(
        "--needs-approval", action="store_true", help="each machine waits for somebody's word"
    )
    create.add_argument("--quiet", action="store_true", help="print the token alone")
    words.add_parser("ls", help="list tokens")
    words.add_parser("revoke", help="make a token worthless").add_argument("id", metavar="ID")
    options.add_state_dir(words)
    return parser.parse_args(argv)


def _create(hub: Hub, chosen: argparse.Namespace) -> int:
    tags = tuple(tag for tag in chosen.tags.split(",") if tag)
    wanted = Wanted(chosen.uses, chosen.expires, tags, chosen.needs_approval, chosen.label)

    def make(session: Session) -> tuple[EnrolmentToken, str]:
        tenant = service.find_tenant(session, chosen.tenant)
        if tenant is None:
            raise NotFoundError(f"there is no tenant `{chosen.tenant}`")
        return enrolment_tokens.make(session, audit.SYSTEM, tenant.id, wanted)

    row, text = hub.database.write_now(None, make)
    paste = enroltoken.carrying(text, hub.addresses.public, hub.addresses.pin)
    if chosen.quiet:
        print(text if hub.addresses.pin is None else paste)
        return exits.OK
    print(paste)
    print(f"good until {iso(row.expires_ms)} for {row.uses_max} machine(s)", file=sys.stderr)
    print("on the machine: jackline enroll --token-stdin", file=sys.stderr)
    return exits.OK


def _list(hub: Hub) -> int:
    query = select(EnrolmentToken).order_by(EnrolmentToken.id)
    rows = hub.database.read_now(None, lambda session: list(session.scalars(query)))
    for row in rows:
        print(
            row.id, f"{row.uses}/{row.uses_max}", iso(row.expires_ms), _state(row),
            ",".join(row.tags), row.label, sep="\t",
        )  # fmt: skip
    return exits.OK


def _state(row: EnrolmentToken) -> str:
    if row.revoked_ms is not None:
        return "revoked"
    if row.expires_ms <= now_ms():
        return "expired"
    return "used" if row.uses >= row.uses_max else "good"
