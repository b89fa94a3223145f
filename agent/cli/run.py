"""Run the agent in the foreground, as its supervisor does.

Exit codes: 0 after `jackline stop` or a signal; 75 another agent runs on this state directory; 78
the configuration or a directory is wrong.
"""

from __future__ import annotations

from pathlib import Path

from agent import config, exits
from agent.cli import output
from agent.config import Options
from agent.errors import ConfigError, DirectoryError


def run(argv: list[str]) -> int:
    """Read the configuration, say what is wrong with it, and hand it to the agent."""
    parser = output.parser("run", "Run the agent in the foreground.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="agent-config.json or .yaml")
    parser.add_argument("--insecure", action="store_true", help="do not check the certificate")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    options = parser.parse_args(argv)
    try:
        settings = config.load(
            Options(config=options.config, insecure=options.insecure, log_level=options.log_level)
        )
    except ConfigError as e:
        return _refuse(e)
    for warning in settings.warnings:
        output.note(f"warning: {warning}")
    from agent import main

    try:
        return main.run(settings)
    except DirectoryError as e:
        output.note(str(e))
        return exits.CONFIGURATION


def _refuse(error: ConfigError) -> int:
    for fault in error.faults:
        output.note(str(fault))
    return exits.CONFIGURATION
