"""Check the configuration, or show it and where each value comes from.

Exit codes: 0; 78 there is a fault, or with `--strict` a warning.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agent import config, configvalues, exits
from agent.cli import output
from agent.config import Options, Report
from agent.doctor import configuration


def run(argv: list[str]) -> int:
    """Carry out `jackline config check|show`."""
    options = _parser().parse_args(argv)
    report = config.inspect(Options(config=options.config))
    policy_faults, policy_warnings = configuration.policy(report)
    warnings = [*report.warnings, *policy_warnings]
    faults = [*map(str, report.faults), *policy_faults]
    if options.verb == "check":
        _print_check(report, faults, warnings, as_json=output.wants_json(options))
    else:
        _print_values(report, options)
        for fault in faults:
            output.note(fault)
        if overruled := _overruled(report):
            output.note(
                f"policy.yaml decides instead: {', '.join(overruled)} (`jackline policy show`)"
            )
    is_bad = bool(faults or (options.strict and warnings))
    return exits.CONFIGURATION if is_bad else exits.OK


def _parser() -> argparse.ArgumentParser:
    parser = output.parser("config", "Check the configuration, or show it.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, about in (
        ("check", "say everything that is wrong or doubtful"),
        ("show", "print every value; secrets are hidden"),
    ):
        one = verbs.add_parser(verb, help=about, description=about, allow_abbrev=False)
        output.add_format(one)
        one.add_argument("--config", type=Path, metavar="FILE")
        one.add_argument("--strict", action="store_true", help="a warning is a fault")
        if verb == "show":
            one.add_argument("--origin", action="store_true", help="where each value comes from")
    return parser


def _print_check(report: Report, faults: list[str], warnings: list[str], *, as_json: bool) -> None:
    if as_json:
        file = str(report.config_file) if report.config_file else None
        output.print_json({"ok": not faults, "file": file, "faults": faults, "warnings": warnings})
        return
    for fault in faults:
        output.note(fault)
    for warning in warnings:
        output.note(f"warning: {warning}")
    if not faults:
        print(f"{report.config_file or 'the environment'}: good")


def _print_values(report: Report, options: argparse.Namespace) -> None:
    rows = [
        {
            "key": value.key.name,
            "value": _hidden(value) if value.key.is_secret else value.value,
            "origin": value.origin,
        }
        for value in report.values
    ]
    if output.wants_json(options):
        output.print_json(rows)
        return
    head: tuple[str, ...] = ("KEY", "VALUE")
    table = [
        (value.key.name, configvalues.shown(value.key, value.value)) for value in report.values
    ]
    if options.origin:
        origins = (value.origin for value in report.values)
        output.print_table(
            (*head, "ORIGIN"), [(*r, o) for r, o in zip(table, origins, strict=True)]
        )
    else:
        output.print_table(head, table)


def _overruled(report: Report) -> list[str]:
    """Return the keys of which the owner's policy.yaml says something else, or the same again."""
    from workers import policy_file
    from workers.errors import PolicyError

    if report.settings is None:
        return []
    try:
        said = policy_file.read(report.settings.policy_file)
    except PolicyError:
        return []  # its faults have been told
    names = [
        value.key.name
        for value in report.values
        if not value.origin.startswith(("environment", "flag"))
    ]
    return [] if said is None else [name for name in names if said.says(name)]


def _hidden(value: config.Value) -> Any:
    return configvalues.shown(value.key, value.value)
