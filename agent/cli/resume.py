"""Take jobs again after `jackline pause`.

Works with and without a running agent. Exit codes: 0 (also when nothing was paused); 77 not
permitted.
"""

from __future__ import annotations

from agent import control_client, dirs, exits, killswitch
from agent.cli import output
from agent.errors import ControlError, DirectoryError


def run(argv: list[str]) -> int:
    """Clear the kill switch."""
    parser = output.parser("resume", "Take jobs again after `jackline pause`.")
    output.add_format(parser)
    as_json = output.wants_json(parser.parse_args(argv))
    state = dirs.find().state
    try:
        with dirs.as_owner(state):
            was_on = killswitch.turn_off(state)
        if not was_on and not state.is_dir():
            was_on = _ask_agent()
    except (PermissionError, DirectoryError):
        try:
            was_on = _ask_agent()
        except ControlError as e:
            return output.refused(e, as_json=as_json)
    except ControlError as e:
        return output.refused(e, as_json=as_json)
    if as_json:
        output.print_json({"ok": True, "paused": False, "was_paused": was_on})
    else:
        output.note("jobs are taken again" if was_on else "nothing was paused")
    return exits.OK


def _ask_agent() -> bool:
    return bool(control_client.ask("resume").get("was_paused"))
