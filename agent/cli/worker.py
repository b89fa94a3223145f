"""List, show, restart and stop workers.

TARGET is a worker's id, a kind (`shell`), or `all`. Exit codes: 0 done; 3 some of them; 4 there is
no such worker; 69 no agent runs.
"""

from __future__ import annotations

import argparse
from typing import Any

from agent import control_client, exits
from agent.cli import output, status
from agent.errors import ControlError

# A restart ends the old job's tree first, which may take its whole grace and then some.
TIMEOUT_S = 60.0


def run(argv: list[str]) -> int:
    """Carry out `jackline worker list|show|restart|stop`."""
    options = _parser().parse_args(argv)
    as_json = output.wants_json(options)
    try:
        if options.verb in ("list", "show"):
            return _look(options, as_json=as_json)
        return _act(options, as_json=as_json)
    except ControlError as e:
        return output.refused(e, as_json=as_json)


def _parser() -> argparse.ArgumentParser:
    parser = output.parser("worker", "List, show, restart and stop workers.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, about in (
        ("list", "one line per worker"),
        ("show", "all that is known of some workers"),
        ("restart", "a shell gets a new terminal, a command ends, telemetry starts again"),
        ("stop", "end the job"),
    ):
        one = verbs.add_parser(verb, help=about, description=about, allow_abbrev=False)
        output.add_format(one)
        needs = "?" if verb in ("list", "show") else None
        one.add_argument("target", nargs=needs, default="all", metavar="ID|KIND|all")
    return parser


def _look(options: argparse.Namespace, *, as_json: bool) -> int:
    workers = control_client.ask("workers").get("workers") or []
    chosen = [worker for worker in workers if matches(worker, options.target)]
    if not chosen and options.target != "all":
        raise ControlError("not_found", f"no worker is called {options.target!r}")
    if as_json:
        output.print_json(chosen)
    elif options.verb == "list":
        status.show_workers(chosen)
    else:
        for worker in chosen:
            output.print_fields(map(_readable, worker.items()))
            print()
    return exits.OK


def _done(verb: str, result: dict[str, Any]) -> str:
    """A shell, a backup and what is resident begin again; any other job only ends."""
    if verb == "stop":
        return "stopped"
    return "restarted" if result.get("again", True) else "ended; it is not run again"


def _readable(field: tuple[str, Any]) -> tuple[str, Any]:
    """Turn a field of the answer into words; the unit of its name is in its value then."""
    name, value = field
    if name.endswith("_s") and isinstance(value, int | float):
        return name.removesuffix("_s").replace("_", " "), output.duration(value)
    if name.endswith("_bytes") and isinstance(value, int | float):
        return name.removesuffix("_bytes"), output.size(value)
    return name.replace("_", " "), value


def _act(options: argparse.Namespace, *, as_json: bool) -> int:
    request = f"worker_{options.verb}"
    answer = control_client.ask(request, timeout_s=TIMEOUT_S, target=options.target)
    results: list[dict[str, Any]] = answer.get("results") or []
    if as_json:
        output.print_json(results)
    for result in results:
        if not result.get("ok"):
            output.note(f"{result.get('id')}: {result.get('error')}")
        elif not as_json:
            print(f"{output.clean(result.get('id'))} {_done(options.verb, result)}")
    failed = sum(not result.get("ok") for result in results)
    if not failed:
        return exits.OK
    return exits.PARTIAL if failed < len(results) else exits.FAILED


def matches(worker: dict[str, Any], target: str) -> bool:
    """Does TARGET mean this worker?"""
    return target in ("all", worker.get("id"), worker.get("kind"))
