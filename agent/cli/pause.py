"""Refuse every new job on this machine but telemetry, until `jackline resume`.

What runs goes on. Works with and without a running agent. Exit codes: 0; 77 not permitted.
"""

from __future__ import annotations

from agent import control_client, dirs, exits, killswitch
from agent.cli import output
from agent.errors import ControlError, DirectoryError


def run(argv: list[str]) -> int:
    """Set the kill switch."""
    parser = output.parser("pause", "Refuse every new job on this machine but telemetry.")
    output.add_format(parser)
    parser.add_argument("reason", nargs="?", default="", help="told to whoever asks why")
    options = parser.parse_args(argv)
    as_json = output.wants_json(options)
    state = dirs.find().state
    try:
        with dirs.as_owner(state):
            killswitch.turn_on(state, options.reason)
    except (OSError, DirectoryError):
        # Not our directory: a member of the control group may still ask the agent to do it.
        try:
            control_client.ask("pause", reason=options.reason)
        except ControlError as e:
            return output.refused(e, as_json=as_json)
    if as_json:
        output.print_json({"ok": True, "paused": True})
    else:
        output.note("paused: no job starts until `jackline resume`")
    return exits.OK
