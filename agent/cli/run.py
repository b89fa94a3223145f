"""Run the agent in the foreground, as its supervisor does.

Exit codes: 0 after `jackline stop` or a signal; 75 another agent runs on this state directory; 78
the configuration or a directory is wrong.
"""

from __future__ import annotations

from pathlib import Path

from agent import config, exits
from agent.cli import output
from agent.config import Options, Report
from agent.errors import DirectoryError
from agent.log import Log
from agent.logfile import LogFile


def run(argv: list[str]) -> int:
    """Read the configuration, say what is wrong with it, and hand it to the agent."""
    parser = output.parser("run", "Run the agent in the foreground.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="agent-config.json or .yaml")
    parser.add_argument("--insecure", action="store_true", help="do not check the certificate")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    options = parser.parse_args(argv)
    report = config.inspect(
        Options(config=options.config, insecure=options.insecure, log_level=options.log_level)
    )
    if report.settings is None:
        return _refuse(report)
    for warning in report.warnings:
        output.note(f"warning: {warning}")
    from agent import main

    try:
        return main.run(report.settings)
    except DirectoryError as e:
        output.note(str(e))
        return exits.CONFIGURATION


def _refuse(report: Report) -> int:
    """Tell every fault on stderr, and in the log for who only looks there."""
    for fault in report.faults:
        output.note(str(fault))
    if report.log_file.parent.is_dir():
        log = Log(LogFile(report.log_file), console=lambda _line: None)
        for fault in report.faults:
            log.error("the configuration cannot be used", fault=str(fault))
        log.close()
    return exits.CONFIGURATION
