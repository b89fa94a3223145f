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
    report = config.inspect(plain_options(argv) or parsed_options(argv))
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


def plain_options(argv: list[str]) -> Options | None:
    """Read what a supervisor gives; argparse and what it brings would stay for months (0.5 MiB).

    Returns:
        None where argparse has to look: help is wanted, or something is wrong.
    """
    given: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--insecure":
            given[word] = word
            continue
        value = value if equals else next(words, "")
        if name not in ("--config", "--log-level") or not value or value.startswith("-"):
            return None
        given[name] = value
    return Options(
        config=Path(given["--config"]) if "--config" in given else None,
        insecure="--insecure" in given,
        log_level=given.get("--log-level"),
    )


def parsed_options(argv: list[str]) -> Options:
    """Read whatever else is given; what is wrong ends the program with a sentence."""
    parser = output.parser("run", "Run the agent in the foreground.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="agent-config.json or .yaml")
    parser.add_argument("--insecure", action="store_true", help="do not check the certificate")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    options = parser.parse_args(argv)
    return Options(config=options.config, insecure=options.insecure, log_level=options.log_level)


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
