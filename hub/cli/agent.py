"""Register an agent by hand: `jackline hub agent add CLIENT_ID`.

Rules: for agents that cannot enrol, fielded ones above all; the secret is printed once. A secret
that a machine has already comes in by standard input.
"""

from __future__ import annotations

import argparse
import json

from sqlalchemy.orm import Session

from hub.agents import service
from hub.assembly import Hub
from hub.audit import service as audit
from hub.cli import exits, options
from hub.errors import NotFoundError
from hub.operators import service as operators


def run(argv: list[str]) -> int:
    """Run `jackline hub agent`.

    Raises:
        HubError: the name is taken or none, or there is no such tenant.
    """
    chosen = _options(argv)
    secret = options.read_secret("authToken") if chosen.secret_stdin else None
    with options.opened(chosen) as hub:
        made = hub.database.write_now(None, lambda session: _add(session, hub, chosen, secret))
        lines = {"clientId": chosen.client_id, "serverUrl": hub.addresses.public, "authToken": made}
    print(json.dumps(lines, indent=2))
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("agent", "Register an agent by hand.")
    parser.add_argument("word", choices=["add"])
    parser.add_argument("client_id", metavar="CLIENT_ID", help="as its configuration names it")
    parser.add_argument(
        "--tenant", default=operators.DEFAULT_TENANT, metavar="T", help="whose machine it is"
    )
    parser.add_argument(
        "--secret-stdin", action="store_true", help="the authToken that the machine has already"
    )
    return parser.parse_args(argv)


def _add(session: Session, hub: Hub, chosen: argparse.Namespace, secret: str | None) -> str:
    tenant = operators.find_tenant(session, chosen.tenant)
    if tenant is None:
        raise NotFoundError(f"there is no tenant `{chosen.tenant}`")
    asset = service.add_asset(session, tenant.id, chosen.client_id)
    agent, made = service.add_agent(session, hub.keyring, asset, chosen.client_id, secret)
    audit.record(
        session, tenant.id, audit.SYSTEM, "agents.write", of=("asset", asset.id), agent=agent.id
    )
    return made
