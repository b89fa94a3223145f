"""Show what this machine allows, test one thing against it, or explain which line decides.

Works without a running agent: it reads what the agent would read. Exit codes: 0 allowed; 5 refused;
78 the configuration or policy.yaml is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import Any, get_args

from agent import config, control_client, dirs, exits, started_from
from agent.cli import output
from agent.config import Options
from agent.errors import ControlError
from workers import policy, policy_roots
from workers.policy import Launch, Policy, PolicyError, Sections, Verdict
from workers.policy_verdict import Family

AGENT_TIMEOUT_S = 2.0
_BACKUP = {
    "source": "allowedSourceRoots",
    "dest": "allowedDestRoots",
    "restore": "allowedRestoreRoots",
}


def run(argv: list[str]) -> int:
    """Carry out `jackline policy show|test|explain`."""
    options = _options(argv)
    try:
        engine = _load(options)
    except PolicyError as e:
        for fault in e.faults:
            output.note(str(fault))
        return exits.CONFIGURATION
    _warn_of_running(options)
    if options.verb == "show":
        _show(engine, options)
        return exits.OK
    try:
        answer = _ask(engine, options)
    except ValueError as e:
        output.note(str(e))
        return exits.USAGE
    _print_answer(answer, options)
    return exits.OK if isinstance(answer, Launch) or answer.allowed else exits.REFUSED


def _options(argv: list[str]) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if rest:
        is_command = getattr(options, "subject", None) == "command"
        cure = "; quote the command, or write -- before it" if is_command else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{cure}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = output.parser("policy", "Show, test or explain what this machine allows.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    show = _add(verbs, "show", "print what is allowed and where it is written")
    show.add_argument("--all", action="store_true", help="defaults, too")
    _add_source(show)
    for verb, about in (
        ("test", "ask whether one thing is allowed"),
        ("explain", "the same, with the line that decides and what would be run"),
    ):
        _add_subjects(_add(verbs, verb, about))
    return parser


def _add_subjects(parser: argparse.ArgumentParser) -> None:
    subjects = parser.add_subparsers(dest="subject", required=True)
    command = _add(subjects, "command", "an admin command; several words are quoted into one")
    command.add_argument("--cwd", metavar="DIR")
    command.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("words", nargs="+", metavar="COMMAND")
    listing = _add(subjects, "listing", "the listing of a directory")
    listing.add_argument("path")
    backup = _add(subjects, "backup", "a backup's source, destination or place of restoring")
    backup.add_argument("role", choices=tuple(_BACKUP))
    backup.add_argument("path")
    tool = _add(subjects, "tool", "a call of a local tool")
    tool.add_argument("name")
    tool.add_argument("--args", default="{}", metavar="JSON")
    for subject, about in (
        ("shell", "a terminal session"),
        ("keys", "the synchronisation of public keys"),
        ("log", "following the agent's own log"),
        ("telemetry", "telemetry"),
    ):
        _add(subjects, subject, about)
    for parser_ in subjects.choices.values():
        _add_source(parser_)


def _add(verbs: Any, word: str, about: str) -> argparse.ArgumentParser:
    found: argparse.ArgumentParser = verbs.add_parser(
        word, help=about, description=about, allow_abbrev=False
    )
    return found


def _add_source(parser: argparse.ArgumentParser) -> None:
    output.add_format(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of the one in use")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="instead of policy.yaml")


def _load(options: argparse.Namespace) -> Policy:
    """Read what the agent would read; with a policy of one's own no configuration is needed."""
    report = config.inspect(Options(config=options.config))
    settings = report.settings
    named: Path | None = options.policy
    if named is not None and not named.exists():
        raise PolicyError([policy.PolicyFault(str(named), "is not there")])
    if settings is not None:
        return policy.load(
            settings.sections,
            named or settings.policy_file,
            state_dir=settings.dirs.state,
            origins=settings.origins,
            tenant=policy.tenant_document(settings.identity.policy if settings.identity else None),
        )
    if named is not None and report.config_file is None:
        return policy.load(Sections(), named, state_dir=dirs.find().state)
    raise PolicyError(
        [policy.PolicyFault(f.key, f.reason, f.value, f.source) for f in report.faults]
    )


def _warn_of_running(options: argparse.Namespace) -> None:
    """What is in the files now need not be what the running agent goes by."""
    if options.config is not None or options.policy is not None:
        return
    try:
        answer = control_client.ask("status", timeout_s=AGENT_TIMEOUT_S)
    except ControlError:
        return
    for warning in started_from.warnings(answer.get("files")):
        output.note(f"warning: {warning}")


# -- show ---------------------------------------------------------------------------------------


def _show(engine: Policy, options: argparse.Namespace) -> None:
    locked = engine.locked()
    families = {family: engine.family(family) for family in get_args(Family)}
    families["shell"] = engine.shell() if locked is None else families["shell"]
    rows = [row for row in engine.rows() if options.all or row[3] != "default"]
    if output.wants_json(options):
        output.print_json(
            {
                "locked": locked is not None,
                "families": {name: _as_dict(verdict) for name, verdict in families.items()},
                "keys": [
                    dict(zip(("side", "key", "value", "where"), r, strict=True)) for r in rows
                ],
                "warnings": engine.warnings(),
            }
        )
        return
    if locked is not None:
        output.note(locked.sentence)
    output.print_table(
        ("FAMILY", "ALLOWED", "BECAUSE", "WRITTEN AT"),
        [(name, _word(v), v.sentence, v.where) for name, v in families.items()],
    )
    print()
    table = [(key, json.dumps(value, ensure_ascii=False), side, w) for side, key, value, w in rows]
    output.print_table(("KEY", "VALUE", "SIDE", "WRITTEN AT"), table)
    for warning in engine.warnings():
        output.note(f"warning: {warning}")


# -- test and explain ---------------------------------------------------------------------------


def _ask(engine: Policy, options: argparse.Namespace) -> Launch | Verdict:
    match options.subject:
        case "shell":
            return engine.shell()
        case "keys":
            return engine.keys()
        case "log":
            return engine.tail()
        case "telemetry":
            return engine.telemetry()
        case "command":
            return _ask_command(engine, options)
        case "listing":
            verdict = engine.listing(options.path)
            return _placed(verdict, options.path, engine.listing_roots(), "dirBrowse.allowedRoots")
        case "backup":
            key = _BACKUP[options.role]
            verdict = engine.backup(options.path, key)
            return _placed(verdict, options.path, engine.backup_roots(key), f"backup.{key}")
        case _:
            return engine.tool(options.name, _arguments(options.args))


def _ask_command(engine: Policy, options: argparse.Namespace) -> Launch | Verdict:
    words: list[str] = options.words
    command = words[0] if len(words) == 1 else shlex.join(words)
    pairs = [each.partition("=") for each in options.env]
    env = {name: value for name, _, value in pairs}
    answer = engine.command(command, cwd=options.cwd, env=env)
    if isinstance(answer, Launch) and answer.cwd:
        placed = _placed(answer.verdict, answer.cwd, answer.cwd_roots, "admin.allowedCwds")
        return answer if placed.allowed else placed
    return answer


def _placed(verdict: Verdict, path: str, roots: list[list[str]], key: str) -> Verdict:
    """Do what the worker would do: look where `path` really leads."""
    place = os.path.realpath(path)
    if not verdict.allowed or policy_roots.holds(roots, place):
        return verdict
    sentence = f"{path} leads to {place}, which does not lie in {key}"
    return Verdict(
        allowed=False,
        sentence=sentence,
        rule=key,
        where=verdict.where,
        code=126,
        reason="policy_denied",
    )


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as e:
        raise ValueError(f"--args is no JSON: {e}") from e
    if not isinstance(found, dict):
        raise ValueError("--args must be a JSON object")
    return found


def _print_answer(answer: Launch | Verdict, options: argparse.Namespace) -> None:
    launch = answer if isinstance(answer, Launch) else None
    verdict = answer.verdict if isinstance(answer, Launch) else answer
    if output.wants_json(options):
        output.print_json({**_as_dict(verdict), "launch": launch and _launch_fields(launch)})
        return
    print(f"{_word(verdict)}: {verdict.sentence}")
    if options.verb == "test":
        return
    fields: dict[str, Any] = {
        "decided by": verdict.rule or None,
        "written at": verdict.where or None,
        "reason": verdict.reason or None,
        "code": verdict.code or None,
    }
    if launch is not None:
        fields |= {name: _text(value) for name, value in _launch_fields(launch).items()}
    output.print_fields(fields.items())


def _launch_fields(launch: Launch) -> dict[str, Any]:
    return {
        "runs": launch.argv,
        "cwd": launch.cwd or "the account's home",
        "as": launch.run_as or "the agent's account",
        "env": launch.env,
        "stdin": f"{len(launch.stdin)} bytes" if launch.stdin else None,
    }


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return shlex.join(value)
    if isinstance(value, dict):
        return " ".join(f"{name}={shlex.quote(text)}" for name, text in value.items())
    return None if value is None else str(value)


def _word(verdict: Verdict) -> str:
    if verdict.asks:
        return "asks"
    return "allowed" if verdict.allowed else "refused"


def _as_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "allowed": verdict.allowed,
        "asks": verdict.asks,
        "sentence": verdict.sentence,
        "rule": verdict.rule,
        "where": verdict.where,
        "code": verdict.code,
        "reason": verdict.reason,
    }
