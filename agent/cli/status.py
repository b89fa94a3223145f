"""Show the link, the workers and what waits to be sent.

Needs no configuration: it asks the running agent. Exit codes: 0 the link is up, or the heartbeat
where no link is wanted; 1 the agent runs and it is down; 69 no agent runs.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from agent import control_client, exits, started_from
from agent.cli import output
from agent.errors import ControlError

EVERY_S = 2.0


def run(argv: list[str]) -> int:
    """Print the state once, or every two seconds with `--watch`."""
    parser = output.parser("status", "Show the link, the workers and what waits to be sent.")
    output.add_format(parser)
    parser.add_argument("--watch", action="store_true", help="show it again every two seconds")
    options = parser.parse_args(argv)
    as_json = output.wants_json(options)
    while True:
        code = _once(as_json=as_json, is_watching=options.watch)
        if not options.watch:
            return code
        sys.stdout.flush()
        time.sleep(EVERY_S)


def _once(*, as_json: bool, is_watching: bool) -> int:
    try:
        answer = control_client.ask("status")
    except ControlError as e:
        return output.refused(e, as_json=as_json)
    if as_json:
        output.print_json(answer)
    else:
        if is_watching and sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")
        show(answer)
    return exits.OK if _is_well(answer) else exits.FAILED


def show(answer: dict[str, Any]) -> None:
    """Print a `status` answer for a person."""
    link, outbox = _part(answer, "link"), _part(answer, "outbox")
    output.print_fields(
        [
            ("link", _link(link)),
            ("heartbeat", _heartbeat(_part(answer, "heartbeat"))),
            ("server", answer.get("server_url")),
            ("client", answer.get("client_id")),
            ("round trip", _milliseconds(link.get("rtt_ms"))),
            ("reconnects", link.get("reconnects")),
            ("last refusal", _refusal(link.get("last_refusal"))),
            ("next try in", output.duration(link.get("next_try_s"))),
            ("outbox", _outbox(outbox)),
            ("paused", _paused(answer.get("paused"))),
            ("degraded", ", ".join(answer.get("degraded") or ()) or None),
            ("log", _log(_part(answer, "log"))),
            ("agent", _agent(answer)),
        ]
    )
    for warning in (*(answer.get("warnings") or ()), *started_from.warnings(answer.get("files"))):
        print(output.colour("yellow", f"warning: {output.clean(warning)}"))
    workers = answer.get("workers") or []
    print(f"\n{len(workers)} worker{'' if len(workers) == 1 else 's'}")
    if workers:
        show_workers(workers)


def show_workers(workers: list[dict[str, Any]]) -> None:
    """Print workers as a table."""
    head = ("ID", "KIND", "STATE", "PID", "JOB", "MEMORY", "LAST BEAT", "SINCE")
    rows = [
        (
            worker.get("id"),
            worker.get("kind"),
            worker.get("state"),
            worker.get("pid"),
            worker.get("job"),
            output.size(worker.get("memory_bytes")),
            _ago(worker.get("beat_ago_s")),
            _ago(worker.get("age_s")),
        )
        for worker in workers
    ]
    output.print_table(head, rows)


def _link(link: dict[str, Any]) -> str:
    state = str(link.get("state", "unknown"))
    since = f" since {link['since']}" if link.get("since") else ""
    length = output.duration(link.get("for_s"))
    told = f"{state}{since}{f' ({length})' if length else ''}"
    if link.get("transport") and state == "up":
        told += f", {link['transport']}"
    return output.colour("green" if state == "up" else "red", output.clean(told))


def _heartbeat(heartbeat: dict[str, Any]) -> str | None:
    if not heartbeat:
        return None
    state = str(heartbeat.get("state", "unknown"))
    told = [state]
    if heartbeat.get("only_link"):
        told.append("the only link")
    if heartbeat.get("answered_ago_s") is not None:
        told.append(f"answered {_ago(heartbeat['answered_ago_s'])}")
    if state != "up" and (failure := _refusal(heartbeat.get("last_failure"))):
        told.append(failure)
    if heartbeat.get("samples_kept"):
        told.append(f"{heartbeat['samples_kept']} samples kept")
    return output.colour("green" if state == "up" else "red", output.clean(", ".join(told)))


def _is_well(answer: dict[str, Any]) -> bool:
    """Is the link up, or the heartbeat where it is the only link that is wanted?"""
    link = _part(answer, "link").get("state")
    return link == "up" or (link == "off" and _part(answer, "heartbeat").get("state") == "up")


def _refusal(refusal: Any) -> str | None:
    if not isinstance(refusal, dict):
        return None
    told = str(refusal.get("reason"))
    if refusal.get("detail"):
        told += f": {refusal['detail']}"
    ago = _ago(refusal.get("ago_s"))
    return f"{told} ({ago})" if ago else told


def _outbox(outbox: dict[str, Any]) -> str | None:
    if not outbox:
        return None
    count = outbox.get("count", 0)
    told = f"{count} event{'' if count == 1 else 's'}, {output.size(outbox.get('bytes', 0))}"
    if outbox.get("oldest_s") is not None:
        told += f", oldest {_ago(outbox['oldest_s'])}"
    if outbox.get("parked"):
        told += f", {outbox['parked']} parked"
    return told


def _paused(paused: Any) -> str | None:
    if not paused:
        return None
    told = paused if isinstance(paused, dict) else {}
    reason, since = told.get("reason"), told.get("since")
    return " ".join(filter(None, ["yes", since and f"since {since}", reason and f"({reason})"]))


def _log(log: dict[str, Any]) -> str | None:
    if not log.get("file"):
        return None
    dropped = log.get("dropped")
    return f"{log['file']}{f', {dropped} records dropped' if dropped else ''}"


def _agent(answer: dict[str, Any]) -> str:
    told = f"{answer.get('version')}, pid {answer.get('pid')}"
    up = output.duration(answer.get("up_s"))
    return f"{told}, up {up}" if up else told


def _milliseconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} ms"


def _ago(seconds: float | None) -> str | None:
    return None if seconds is None else f"{output.duration(seconds)} ago"


def _part(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found = answer.get(name)
    return found if isinstance(found, dict) else {}
