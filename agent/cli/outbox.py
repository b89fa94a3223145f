"""List the results that wait to be sent, or try to send them now.

Exit codes: 0; 69 no agent runs.
"""

from __future__ import annotations

from agent import control_client, exits
from agent.cli import output
from agent.errors import ControlError


def run(argv: list[str]) -> int:
    """Carry out `jackline outbox ls|flush`."""
    parser = output.parser("outbox", "List the results that wait to be sent, or send them now.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, about in (
        ("ls", "one line per event that waits"),
        ("flush", "try everything again now, parked events too"),
    ):
        output.add_format(verbs.add_parser(verb, help=about, description=about))
    options = parser.parse_args(argv)
    as_json = output.wants_json(options)
    try:
        return _list(as_json=as_json) if options.verb == "ls" else _flush(as_json=as_json)
    except ControlError as e:
        return output.refused(e, as_json=as_json)


def _list(*, as_json: bool) -> int:
    items = control_client.ask("outbox").get("items") or []
    if as_json:
        output.print_json(items)
        return exits.OK
    head = ("ID", "EVENT", "JOB", "SIZE", "AGE", "TRIES", "STATE")
    rows = [
        (
            item.get("id"),
            item.get("event"),
            item.get("job"),
            output.size(item.get("bytes")),
            output.duration(item.get("age_s")),
            item.get("tries"),
            "parked" if item.get("parked") else "waiting",
        )
        for item in items
    ]
    output.print_table(head, rows)
    return exits.OK


def _flush(*, as_json: bool) -> int:
    answer = control_client.ask("outbox_flush")
    if as_json:
        output.print_json(answer)
    else:
        print(f"{answer.get('count', 0)} events are being sent")
    return exits.OK
