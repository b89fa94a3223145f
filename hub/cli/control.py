"""Run the control plane: init, serve, migrate, users, tokens and the rest (`jackline hub`)."""

from __future__ import annotations

import importlib
import sys

from hub.cli import exits

WORDS = {
    "agent": ("hub.cli.agent", "register an agent by hand"),
    "init": ("hub.cli.init", "make the hub's state directory, database and first admin"),
    "serve": ("hub.cli.serve", "run the hub"),
    "token": ("hub.cli.token", "enrolment tokens: make, list, revoke"),
    "migrate": ("hub.cli.migrate", "bring the database to this release's schema"),
    "user": ("hub.cli.user", "users: add, list, set a password, disable"),
    "tenant": ("hub.cli.tenant", "tenants: add, list, disable"),
    "doctor": ("hub.cli.doctor", "look at a hub and say what would mend it"),
    "backup": ("hub.cli.backup", "save a hub while it runs"),
    "restore": ("hub.cli.restore", "bring a saved hub back"),
    "audit": ("hub.cli.audit", "check the audit log, or write it out, signed"),
}
_CODES = {400: exits.USAGE, 404: exits.NOT_FOUND, 409: exits.REFUSED, 503: exits.UNAVAILABLE}
_NEEDS = "jackline: the hub's packages are not installed: pip install 'jackline[hub]' ({name})"


def run(argv: list[str]) -> int:
    """Run one word of `jackline hub`.

    Args:
        argv: what follows `hub` on the command line.

    Returns:
        an exit code of docs/reference/cli.rst.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        _print_help(to_stderr=not argv)
        return exits.OK if argv else exits.USAGE
    if argv[0] not in WORDS:
        print(f"jackline hub: there is no `{argv[0]}`; --help lists the words", file=sys.stderr)
        return exits.USAGE
    return _run_word(argv[0], argv[1:])


def _run_word(word: str, rest: list[str]) -> int:
    try:
        module = importlib.import_module(WORDS[word][0])
    except ModuleNotFoundError as error:
        print(_NEEDS.format(name=error.name), file=sys.stderr)
        return exits.UNAVAILABLE
    from hub.errors import HubError, SettingsError

    try:
        code: int = module.run(rest)
        return code
    except SettingsError as error:
        print(f"jackline hub {word}: {error}", file=sys.stderr)
        return exits.CONFIGURATION
    except HubError as error:
        print(f"jackline hub {word}: {error.detail or error.code}", file=sys.stderr)
        return _CODES.get(error.status, exits.FAILED)


def _print_help(*, to_stderr: bool) -> None:
    out = sys.stderr if to_stderr else sys.stdout
    print("usage: jackline hub WORD ...", end="\n\n", file=out)
    for word, (_, about) in WORDS.items():
        print(f"  {word:<8} {about}", file=out)
