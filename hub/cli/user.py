"""Users of the hub, from its own machine: add, list, set a password, disable.

Rules: a running hub heeds a change within a second; passwords come from standard input.
"""

from __future__ import annotations

import argparse
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.audit import service as audit
from hub.authorize import Role
from hub.cli import exits, options, output
from hub.clock import iso, iso_or_none
from hub.errors import BadRequestError, NotFoundError
from hub.operators import passwords, service
from hub.operators.models import Tenant, User


def run(argv: list[str]) -> int:
    """Run `jackline hub user add|ls|passwd|role|disable|enable`."""
    chosen = _options(argv)
    kept = _password() if chosen.word in ("add", "passwd") else ""
    with options.opened(chosen) as hub:
        if chosen.word == "ls":
            _list(hub, chosen)
            return exits.OK
        work = _WORDS[chosen.word]
        hub.database.write_now(None, lambda session: work(session, chosen, kept))
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("user", "Users of the hub.")
    words = parser.add_subparsers(dest="word", required=True, metavar="WORD")
    add = words.add_parser("add", help="make a user")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--tenant", default=service.DEFAULT_TENANT, metavar="T")
    add.add_argument("--role", choices=[str(role) for role in Role], default="operator")
    listed = words.add_parser("ls", help="list users")
    listed.add_argument("--tenant", metavar="T", help="of this tenant alone")
    output.add_format(listed)
    passwd = words.add_parser("passwd", help="set a password; sessions end")
    passwd.add_argument("name", metavar="NAME")
    for one in (add, passwd):
        one.add_argument("--password-stdin", action="store_true", help="the only way there is")
    role = words.add_parser("role", help="give another role")
    role.add_argument("name", metavar="NAME")
    role.add_argument("role", choices=[str(role) for role in Role])
    for word, about in (("disable", "turn a user off"), ("enable", "turn a user on again")):
        words.add_parser(word, help=about).add_argument("name", metavar="NAME")
    options.add_state_dir(words)
    return parser.parse_args(argv)


def _password() -> str:
    password = options.read_secret("password")
    if len(password) < passwords.MIN_CHARS:
        raise BadRequestError(f"the password must have {passwords.MIN_CHARS} characters")
    return passwords.hash_password(password)


def _add(session: Session, chosen: argparse.Namespace, kept: str) -> None:
    tenant = service.find_tenant(session, chosen.tenant)
    if tenant is None:
        raise NotFoundError(f"there is no tenant `{chosen.tenant}`")
    user = service.add_user(session, tenant.id, chosen.name, Role(chosen.role), kept)
    _tell(session, user, made=True, role=chosen.role)


def _passwd(session: Session, chosen: argparse.Namespace, kept: str) -> None:
    user = _found(session, chosen.name)
    service.set_password(session, user, kept)
    _tell(session, user, password=True)


def _role(session: Session, chosen: argparse.Namespace, _kept: str) -> None:
    user = _found(session, chosen.name)
    service.change_role(session, user, Role(chosen.role))
    _tell(session, user, role=chosen.role)


def _disable(session: Session, chosen: argparse.Namespace, _kept: str) -> None:
    is_disabled = chosen.word == "disable"
    user = _found(session, chosen.name)
    service.disable_user(session, user, is_disabled=is_disabled)
    _tell(session, user, disabled=is_disabled)


_WORDS = {
    "add": _add,
    "passwd": _passwd,
    "role": _role,
    "disable": _disable,
    "enable": _disable,
}


def _found(session: Session, name: str) -> User:
    user = service.find_user(session, name)
    if user is None:
        raise NotFoundError(f"there is no user `{name}`")
    return user


def _tell(session: Session, user: User, **detail: Any) -> None:
    of = ("user", user.id)
    audit.record(
        session, user.tenant_id, audit.SYSTEM, "users.write", of=of, name=user.name, **detail
    )


def _list(hub: Hub, chosen: argparse.Namespace) -> None:
    query = select(User, Tenant.name).join(Tenant, Tenant.id == User.tenant_id).order_by(User.name)
    if chosen.tenant:
        query = query.where(Tenant.name == chosen.tenant)
    rows = hub.database.read_now(None, lambda session: list(session.execute(query).all()))
    if output.wants_json(chosen):
        output.print_json([_view(user, tenant) for user, tenant in rows])
        return
    head = ("NAME", "TENANT", "ROLE", "CODE", "CREATED", "DISABLED")
    output.print_table(head, [tuple(_view(user, tenant).values())[1:] for user, tenant in rows])


def _view(user: User, tenant: str) -> dict[str, str | None]:
    return {
        "id": user.id,
        "name": user.name,
        "tenant": tenant,
        "role": user.role,
        "totp": "yes" if user.totp_sealed else "no",
        "created_at": iso(user.created_ms),
        "disabled_at": iso_or_none(user.disabled_ms),
    }
