"""List shell sessions, and play their recordings in this terminal.

Rules: what would make the terminal act or answer is left out (`answerback`); the time between two
outputs is as it was, divided by `--speed`, and with `--idle` at most so long.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from hub.cli import exits, machines, output
from hub.cli.answerback import RESET, Harmless
from hub.cli.client import Client, reporting, segment
from hub.errors import CliError, HubError
from hub.shell import cast

API = "/api/v1/shells"


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline sessions`."""
    options = _options(argv)
    if options.word == "play":
        return _play(options)
    return _list(options, Client.from_login())


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("sessions", "List shell sessions and play their recordings.")
    words = parser.add_subparsers(dest="word", required=True, metavar="ls|play")
    ls = words.add_parser("ls", help="list sessions, the newest first")
    ls.add_argument("--agent", metavar="AGENT", help="of one machine")
    ls.add_argument("--live", action="store_true", help="only what runs")
    ls.add_argument("--limit", type=int, default=50, metavar="N", help="default: 50")
    output.add_format(ls)
    play = words.add_parser("play", help="play a recording")
    play.add_argument("session", metavar="SESSION", help="its id, or a .cast file")
    play.add_argument("--speed", type=_positive, default=1.0, metavar="X", help="times as fast")
    play.add_argument("--idle", type=_positive, metavar="S", help="wait at most so many seconds")
    return parser.parse_args(argv)


def _list(options: argparse.Namespace, client: Client) -> int:
    asset_id = None
    if options.agent is not None:
        asset_id = machines.find(client, options.agent)
    state = "live" if options.live else None
    rows = []
    for row in client.items(API, asset_id=asset_id, state=state):
        rows.append(row)
        if len(rows) >= options.limit:
            break
    if output.wants_json(options):
        output.print_json(rows)
        return exits.OK
    head = ("SESSION", "AGENT", "USER", "STATE", "OPENED", "ENDED", "BY", "CODE")
    output.print_table(
        head,
        (
            (
                row["id"],
                row["asset_name"],
                row["user"],
                row["state"],
                row["opened_at"],
                row["ended_at"],
                row["reason"],
                row["code"],
            )
            for row in rows
        ),
    )
    return exits.OK


def _play(options: argparse.Namespace) -> int:
    play(_read(options.session), options.speed, options.idle, _show, time.sleep)
    return exits.OK


def play(
    recording: bytes,
    speed: float,
    idle_s: float | None,
    show: Callable[[str], None],
    wait: Callable[[float], None],
) -> None:
    """Play a recording.

    Args:
        speed: times as fast as it was.
        idle_s: the longest wait, as it was.
        show: prints text; `wait` passes time.

    Raises:
        CliError: it is no recording.
    """
    harmless = Harmless()
    try:
        _, events = cast.read(recording.splitlines(keepends=True))
        due_s = 0.0
        for event in events:
            due_s += min(event.interval_s, idle_s) if idle_s is not None else event.interval_s
            if event.code == "o":
                if due_s > 0:
                    wait(due_s / speed)
                due_s = 0.0
                show(harmless.take(event.data))
    except HubError as error:
        raise CliError(str(error), exits.FAILED) from error
    finally:
        show(RESET)


def _read(session: str) -> bytes:
    if session.endswith(".cast"):
        try:
            with open(session, "rb") as file:
                return file.read()
        except OSError as error:
            raise CliError(f"{session}: {error.strerror}", exits.NOT_FOUND) from error
    return Client.from_login().download(f"{API}/{segment(session)}/recording")


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return value
