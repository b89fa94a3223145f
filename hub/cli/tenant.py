"""Tenants of the hub, from its own machine: add, list, disable."""

from __future__ import annotations

import argparse

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.cli import exits, options, output
from hub.clock import iso, iso_or_none
from hub.errors import NotFoundError
from hub.operators import service
from hub.operators.models import Tenant


def run(argv: list[str]) -> int:
    """Run `jackline hub tenant add|ls|disable|enable`."""
    chosen = _options(argv)
    with options.opened(chosen) as hub:
        if chosen.word == "ls":
            query = select(Tenant).where(Tenant.deleted_ms.is_(None)).order_by(Tenant.name)
            _show(hub.database.read_now(None, lambda s: list(s.scalars(query))), chosen)
        else:
            hub.database.write_now(None, lambda session: _change(session, chosen))
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("tenant", "Tenants of the hub.")
    words = parser.add_subparsers(dest="word", required=True, metavar="WORD")
    output.add_format(words.add_parser("ls", help="list tenants"))
    for word, about in (
        ("add", "make a tenant"),
        ("disable", "turn a tenant off: its people and its agents"),
        ("enable", "turn a tenant on again"),
    ):
        words.add_parser(word, help=about).add_argument("name", metavar="NAME")
    options.add_state_dir(words)
    return parser.parse_args(argv)


def _change(session: Session, chosen: argparse.Namespace) -> None:
    if chosen.word == "add":
        tenant: Tenant | None = service.add_tenant(session, chosen.name)
    else:
        tenant = service.find_tenant(session, chosen.name)
    if tenant is None:
        raise NotFoundError(f"there is no tenant `{chosen.name}`")
    service.disable_tenant(tenant, is_disabled=chosen.word == "disable")
    of = ("tenant", tenant.id)
    audit.record(session, tenant.id, audit.SYSTEM, "tenants.write", of=of, word=chosen.word)


def _show(tenants: list[Tenant], chosen: argparse.Namespace) -> None:
    rows = [
        {
            "id": tenant.id,
            "name": tenant.name,
            "created_at": iso(tenant.created_ms),
            "disabled_at": iso_or_none(tenant.disabled_ms),
        }
        for tenant in tenants
    ]
    if output.wants_json(chosen):
        output.print_json(rows)
    else:
        head = ("ID", "NAME", "CREATED", "DISABLED")
        output.print_table(head, [tuple(row.values()) for row in rows])
