"""Run a command on a machine, with its output live and its exit code.

Rules: what is behind `--` is the command's argv; a single word with blanks in it is a whole command
line. The remote code is passed through; failures of ours are 125. The first Ctrl-C ends the remote
command, the second leaves it alone and goes.
Source: product "Commands"; contract 1.4.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any

from hub.cli import exits, machines, output
from hub.cli.client import Client
from hub.cli.following import Following
from hub.errors import CliError

INTERRUPTED = 130
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WHY = {
    "agent_offline": "the machine is not linked",
    "skipped": "the machine is not linked: skipped",
    "expired": "it expired before the machine was linked",
    "revoked": "whoever asked may no longer",
    "unsupported": "the machine's agent cannot do it",
    "unknown_outcome": "the machine lost it: it may or may not have run, and is not run again",
    "deadline": "no result came in time: it may or may not have run",
}


def run(argv: list[str]) -> int:
    """Run `jackline exec`."""
    try:
        return _run(argv)
    except CliError as error:
        output.note(str(error))
        return exits.EXEC_FAILED
    except BrokenPipeError:
        # Nobody reads what we print; nor would the interpreter's own flush be heard.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.EXEC_FAILED


def _run(argv: list[str]) -> int:
    options, command = _options(argv)
    client = Client.from_login()
    asset_id = machines.find(client, options.agent)
    request = _request(options, command)
    if options.detach:
        job = client.post(f"/api/v1/agents/{asset_id}/admin", request)
        output.print_json(job) if output.wants_json(options) else print(job["id"])
        return exits.OK
    following = Following(client, asset_id, request, is_silent=output.wants_json(options))
    try:
        job = _follow(following)
    finally:
        following.close()
    if job is None:
        return INTERRUPTED
    if output.wants_json(options):
        output.print_json(job)
    return exit_code(job)


def _follow(following: Following) -> dict[str, Any] | None:
    """Follow to the end; None: left behind by a second Ctrl-C."""
    try:
        return following.run()
    except KeyboardInterrupt:
        if following.job is None:
            return None
        output.note("ending it; once more to leave it alone")
    try:
        following.cancel()
        return following.run()
    except CliError as error:
        output.note(f"it goes on: {error}")
        return None
    except KeyboardInterrupt:
        return None


def exit_code(job: dict[str, Any]) -> int:
    """Return what `exec` ends with, and say why where the command's own output does not."""
    code = (job["result"] or {}).get("code")
    if job["state"] in ("succeeded", "failed") and isinstance(code, int) and 0 <= code <= 255:
        return code
    if job["state"] == "cancelled" and job["error"] == "cancelled":
        return INTERRUPTED
    output.note(_WHY.get(job["error"] or "", f"{job['state']}: {job['error'] or code}"))
    return exits.EXEC_FAILED


def seconds(text: str) -> int:
    """Read a duration such as `90`, `90s`, `10m`, `24h`, `7d`.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS_S else (text, "s")
    if not number.isascii() or not number.isdigit():
        raise argparse.ArgumentTypeError("a duration such as 90s, 10m, 24h or 7d is needed")
    return int(number) * UNITS_S[unit]


def add_timing(parser: argparse.ArgumentParser) -> None:
    """Let a command be told what to do about a machine that is not linked."""
    parser.add_argument(
        "--when-offline",
        choices=("queue", "skip", "fail"),
        default="queue",
        help="what to do when the machine is not linked (default: queue)",
    )
    parser.add_argument(
        "--expires-in", type=seconds, default=None, metavar="24h", help="how long it may wait"
    )


def timing(options: argparse.Namespace) -> dict[str, Any]:
    """Return the part of a request's body that `add_timing` asked for."""
    found: dict[str, Any] = {"when_offline": options.when_offline}
    if options.expires_in is not None:
        found["expires_in"] = options.expires_in
    return found


def _options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = output.parser("exec", "Run a command on a machine.")
    parser.usage = "jackline exec AGENT [options] -- CMD [ARG ...]"
    parser.add_argument("agent", metavar="AGENT", help="the machine's name or id")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="default: 5 minutes")
    parser.add_argument("--cwd", metavar="DIR", help="where to run it")
    parser.add_argument(
        "--env", action="append", default=[], metavar="K=V", help="a variable; may be repeated"
    )
    parser.add_argument(
        "--detach", action="store_true", help="print the job's id and do not wait for its end"
    )
    add_timing(parser)
    output.add_format(parser)
    place = argv.index("--") if "--" in argv else len(argv)
    try:
        options = parser.parse_args(argv[:place])
    except SystemExit as ended:
        raise SystemExit(exits.EXEC_FAILED if ended.code else 0) from None
    command = argv[place + 1 :]
    if not command:
        raise CliError("what to run stands behind `--`", exits.USAGE)
    return options, command


def _request(options: argparse.Namespace, command: list[str]) -> dict[str, Any]:
    line = command[0] if len(command) == 1 else shlex.join(command)
    request: dict[str, Any] = {"command": line, **timing(options)}
    if options.timeout is not None:
        request["timeout_sec"] = options.timeout
    if options.cwd is not None:
        request["cwd"] = options.cwd
    pairs = [one.partition("=") for one in options.env]
    if any(not name or not mark for name, mark, _ in pairs):
        raise CliError("--env takes NAME=VALUE", exits.USAGE)
    if pairs:
        request["env"] = {name: value for name, _, value in pairs}
    return request
