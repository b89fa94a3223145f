"""Log in to a hub: with a password from standard input, or by approving a code elsewhere.

Rules: the password is never an argument; the session is kept in `login.json`.
"""

from __future__ import annotations

import argparse
import socket
import sys

from hub.cli import exits, login_file, output
from hub.cli.client import Client, reporting
from hub.cli.login_file import Saved
from hub.errors import CliError


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline login`."""
    options = _options(argv)
    asked = Saved(hub=options.hub, ca_file=options.ca_file, insecure=options.insecure)
    client = Client(asked)
    made = by_password(client, options.user)
    saved = Saved(
        hub=client.url,
        token=made["token"],
        user=made["user"],
        expires_at=made["expires_at"],
        ca_file=options.ca_file,
        insecure=options.insecure,
    )
    file = login_file.save(saved)
    output.note(f"logged in as {saved.user} until {saved.expires_at}; kept in {file}")
    return exits.OK


def by_password(client: Client, user: str) -> dict[str, str]:
    """Log in with a password; a one-time code is asked for when the hub wants one."""
    body = {"user": user, "password": _secret("password"), "label": f"cli on {_machine()}"}
    try:
        made: dict[str, str] = client.post("/api/v1/sessions", body)
    except CliError as error:
        if error.reason != "totp_required":
            raise
        made = client.post("/api/v1/sessions", body | {"totp": _secret("one-time code")})
    return made


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("login", "Log in to a hub.")
    parser.add_argument("--hub", required=True, metavar="URL", help="where the hub is")
    parser.add_argument("--user", metavar="NAME", required=True, help="log in with a password")
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password, and the one-time code below it, from standard input",
    )
    parser.add_argument("--ca-file", metavar="FILE", help="the authority that the hub is signed by")
    parser.add_argument(
        "--insecure", action="store_true", help="check no certificate; allow plain http"
    )
    return parser.parse_args(argv)


def _secret(what: str) -> str:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"{what}: ")
    return sys.stdin.readline().rstrip("\r\n")


def _machine() -> str:
    return "".join(c for c in socket.gethostname() if c.isprintable())[:64]
