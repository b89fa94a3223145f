"""Log in to a hub: with a password from standard input, or by approving a code elsewhere.

Rules: the password is never an argument; the session is kept in `login.json`.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable

from hub.cli import exits, login_file, output
from hub.cli.client import Client, reporting
from hub.cli.login_file import Saved
from hub.errors import CliError

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_S = 5.0


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline login`."""
    options = _options(argv)
    asked = Saved(hub=options.hub, ca_file=options.ca_file, insecure=options.insecure)
    client = Client(asked)
    made = by_password(client, options.user) if options.user else by_device(client)
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


def by_device(client: Client, sleep: Callable[[float], None] = time.sleep) -> dict[str, str]:
    """Show a code and wait until somebody who is logged in approves it (RFC 8628)."""
    asked = {"client_id": "cli", "hostname": _machine(), "platform": sys.platform}
    code = client.post("/api/v1/device/code", asked)
    output.note(f"open {code['verification_uri']} and approve the code {code['user_code']}")
    interval_s = float(code.get("interval", 5))
    ends_s = time.monotonic() + code["expires_in"]
    body = {"grant_type": GRANT, "device_code": code["device_code"], "client_id": "cli"}
    while time.monotonic() < ends_s:
        sleep(interval_s)
        try:
            made = client.post("/api/v1/device/token", body)
        except CliError as error:
            interval_s += _slower_s(error)
        else:
            return {
                "token": made["access_token"],
                "user": made["user"],
                "expires_at": made["expires_at"],
            }
    raise CliError("nobody has approved the code", exits.NOT_PERMITTED)


def _slower_s(error: CliError) -> float:
    """Return by how much to poll more slowly; what is no word to wait ends the log-in."""
    if error.reason == "slow_down":
        return SLOWER_S
    if error.reason == "access_denied":
        raise CliError("the code was refused", exits.NOT_PERMITTED) from error
    if error.reason != "authorization_pending" and error.exit_code != exits.UNAVAILABLE:
        raise error
    return 0.0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("login", "Log in to a hub.")
    parser.add_argument("--hub", required=True, metavar="URL", help="where the hub is")
    parser.add_argument("--user", metavar="NAME", help="log in with a password, without a browser")
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
