"""Give this machine's identity back to its hub, and forget it here.

Exit codes: 0 forgotten; 4 there is no identity; 69 the hub cannot be reached (`--force` forgets all
the same); 78 the identity is broken, or another's.
"""

from __future__ import annotations

import os

from agent import config, dirs, exits, identity
from agent.cli import output
from agent.enrolment import exchange
from agent.errors import DirectoryError, EnrolmentError, IdentityError
from agent.identity import Identity
from workers.https import Access


def run(argv: list[str]) -> int:
    """Carry out `jackline unenroll`."""
    parser = output.parser("unenroll", "Give this machine's identity back and forget it.")
    parser.add_argument("--force", action="store_true", help="even where the hub does not answer")
    parser.add_argument("--insecure", action="store_true", help="do not check the certificate")
    options = parser.parse_args(argv)
    state_dir = dirs.find().state
    try:
        with dirs.as_owner(state_dir):
            known = identity.read(state_dir)
        if known is None:
            output.note("this machine is not enrolled")
            return exits.NOT_FOUND
        return _forget(known, options.force, options.insecure)
    except (IdentityError, DirectoryError) as e:
        output.note(str(e))
        return exits.CONFIGURATION


def _forget(known: Identity, force: bool, insecure: bool) -> int:
    try:
        _give_back(known, insecure)
    except EnrolmentError as e:
        output.note(str(e))
        if not force:
            output.note("the identity stays; --force forgets it without the hub")
            return e.code
    state_dir = dirs.find().state
    with dirs.as_owner(state_dir):
        identity.remove(state_dir)
    output.note(f"{known.agent_id} is forgotten; an agent that runs must be stopped")
    return exits.OK


def _give_back(known: Identity, insecure: bool) -> None:
    access = Access(
        base_url=known.http_url,
        ca_data=known.server_ca,
        also_ca=known.own_ca,
        skip_verify=insecure,
        certificate=known.certificate if known.mtls else None,
        key=known.key if known.mtls else None,
        proxies=config.proxies(os.environ),
    )
    token = None if known.mtls else known.service_account_token
    exchange.unenrol(access, known.agent_id, token)
