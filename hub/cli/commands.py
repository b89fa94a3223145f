"""Collect data from agents, whether they are online or not (`jackline commands`)."""

from __future__ import annotations

import argparse
import itertools
import re
import secrets
import time
from pathlib import Path
from typing import Any

from hub.cli import exits, machines, output
from hub.cli.bulk import Outcome, Plan, Target, carry_out, waves
from hub.cli.client import Client, read_json, reporting, segment
from hub.errors import CliError

PATH = "/api/v1/commands"
POLL_S = 0.5
_FINAL = ("completed", "failed")
_LIFE = re.compile(r"([0-9]{1,7})([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline commands templates|run|ls|show|cancel`."""
    chosen = _options(argv)
    client = Client.from_login()
    words = {
        "templates": _templates, "run": _run, "ls": _list, "show": _show, "cancel": _cancel
    }  # fmt: skip
    return words[chosen.word](client, chosen)


def shown_state(command: dict[str, Any]) -> str:
    """Return a state as people see it: `completed` is *succeeded*, a reason stands for `failed`."""
    if command["state"] == "completed":
        return "succeeded"
    if command["state"] == "failed" and command.get("error") in ("cancelled", "expired"):
        return str(command["error"])
    return "skipped" if command.get("skipped") else str(command["state"])


def _templates(client: Client, chosen: argparse.Namespace) -> int:
    found = client.get(f"{PATH}/templates")
    if output.wants_json(chosen):
        output.print_json(found)
        return exits.OK
    rows = [
        (one["command_type"], one["risk"], " ".join(one["params"]["properties"]), one["about"])
        for one in found
    ]
    output.print_table(("TYPE", "RISK", "PARAMETERS", "WHAT"), rows)
    return exits.OK


def _run(client: Client, chosen: argparse.Namespace) -> int:
    targets = _targets(client, chosen)
    body = {"command_type": chosen.type, "params": _params(chosen)}
    body |= {"when_offline": chosen.when_offline}
    if chosen.expires_in is not None:
        body["expires_in"] = chosen.expires_in
    key = chosen.key or secrets.token_hex(16)
    is_bulk = len(targets) > 1
    waits = chosen.wait or chosen.waves is not None or chosen.max_failures is not None

    def one(target: Target) -> Outcome:
        mine = Client.from_login() if is_bulk else client
        own_key = f"{key}.{target.asset_id}" if is_bulk else key
        asked = body | {"asset_id": target.asset_id, "idempotency_key": own_key}
        return _asked(mine, target, asked, chosen.timeout if waits else None)

    plan = Plan(waves(len(targets), chosen.waves), chosen.concurrency, chosen.max_failures)
    outcomes = carry_out(targets, plan, one, _tell if is_bulk else lambda _: None)
    _print_outcomes(outcomes, chosen, is_bulk=is_bulk)
    return _exit_code(outcomes, len(targets))


def _asked(
    client: Client, target: Target, body: dict[str, Any], timeout_s: float | None
) -> Outcome:
    try:
        command = client.post(PATH, body)
        if timeout_s is not None:
            command = _waited(client, command, timeout_s)
    except CliError as error:
        return Outcome(target, None, str(error), error.exit_code)
    is_good = command["state"] != "failed"
    return Outcome(target, command, shown_state(command), exits.OK if is_good else exits.FAILED)


def _waited(client: Client, command: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    deadline_s = time.monotonic() + timeout_s
    while command["state"] not in _FINAL:
        if time.monotonic() >= deadline_s:
            raise CliError(f"{command['command_id']} is still {command['state']}", exits.TRY_LATER)
        time.sleep(POLL_S)
        command = client.get(f"{PATH}/{segment(command['command_id'])}")
    return command


def _list(client: Client, chosen: argparse.Namespace) -> int:
    asset_id = _resolved(client, chosen.agent).asset_id if chosen.agent else None
    query = {"asset_id": asset_id, "state": chosen.state, "limit": min(chosen.limit, 200)}
    found = list(itertools.islice(client.items(PATH, **query), chosen.limit))
    if output.wants_json(chosen):
        output.print_json(found)
        return exits.OK
    names = machines.names(client, (one["asset_id"] for one in found))
    rows = [
        (one["command_id"], names[one["asset_id"]], one["command_type"],
         shown_state(one),
         one["requested_at"], one.get("requested_by"), one.get("error"))
        for one in found
    ]  # fmt: skip
    head = ("ID", "AGENT", "TYPE", "STATE", "REQUESTED", "BY", "ERROR")
    output.print_table(head, rows)
    return exits.OK


def _show(client: Client, chosen: argparse.Namespace) -> int:
    found = client.get(f"{PATH}/{segment(chosen.id)}")
    if chosen.save_artifact is not None:
        if not found.get("artifact_id"):
            raise CliError("the command has no artifact", exits.NOT_FOUND)
        data = client.download(f"/api/v1/artifacts/{segment(found['artifact_id'])}")
        chosen.save_artifact.write_bytes(data)
    if output.wants_json(chosen):
        output.print_json(found)
    else:
        _print_one(found)
    return exits.OK


def _cancel(client: Client, chosen: argparse.Namespace) -> int:
    for command_id in chosen.ids:
        client.post(f"{PATH}/{segment(command_id)}/cancel")
    return exits.OK


def _targets(client: Client, chosen: argparse.Namespace) -> list[Target]:
    if bool(chosen.agents) == bool(chosen.tag):
        raise CliError("name agents, or --tag TAG", exits.USAGE)
    if chosen.agents:
        return [_resolved(client, text) for text in chosen.agents]
    found = [
        Target(one["asset_id"], one["name"])
        for one in client.items("/api/v1/agents", tag=chosen.tag, credential="active")
    ]
    if not found:
        raise CliError(f"no agent has the tag `{chosen.tag}`", exits.NOT_FOUND)
    return found


def _resolved(client: Client, text: str) -> Target:
    """Find an agent by its id, or by its name where only one has it."""
    named = [
        Target(one["asset_id"], one["name"])
        for one in client.items("/api/v1/agents", q=text)
        if text in (one["name"], one["asset_id"])
    ]
    if len(named) == 1:
        return named[0]
    if named:
        raise CliError(f"{len(named)} agents are named `{text}`: use the id", exits.USAGE)
    try:
        one = client.get(f"/api/v1/agents/{segment(text)}")
    except CliError as error:
        raise CliError(f"there is no agent `{text}`", exits.NOT_FOUND) from error
    return Target(one["asset_id"], one["name"])


def _params(chosen: argparse.Namespace) -> dict[str, Any]:
    given = read_json(chosen.params, "--params") if chosen.params else {}
    if not isinstance(given, dict):
        raise CliError("--params: a JSON object is needed", exits.USAGE)
    for pair in chosen.param:
        name, is_pair, text = pair.partition("=")
        if not is_pair:
            raise CliError(f"--param {pair}: NAME=VALUE is needed", exits.USAGE)
        try:
            given[name] = read_json(text, name)
        except CliError:
            given[name] = text
    return given


def _tell(outcome: Outcome) -> None:
    output.note(f"{outcome.target.name}: {outcome.said}")


def _print_outcomes(outcomes: list[Outcome], chosen: argparse.Namespace, *, is_bulk: bool) -> None:
    if output.wants_json(chosen):
        told = [
            {"agent": one.target.name, "asset_id": one.target.asset_id, "outcome": one.said}
            | ({"command": one.command} if one.command else {})
            for one in outcomes
        ]
        output.print_json(told if is_bulk else told[0])
        return
    if not is_bulk and outcomes[0].command is not None:
        _print_one(outcomes[0].command)
        return
    rows = [
        (one.target.name, one.said, one.command["command_id"] if one.command else None)
        for one in outcomes
    ]
    output.print_table(("AGENT", "OUTCOME", "ID"), rows)


def _print_one(command: dict[str, Any]) -> None:
    names = (
        "command_id", "asset_id", "command_type", "requested_by", "requested_at", "expires_at",
        "accepted_at", "started_at", "finished_at", "error", "artifact_id",
    )  # fmt: skip
    output.print_fields(
        [("state", shown_state(command)), *((name, command.get(name)) for name in names)]
    )
    for name, value in (command.get("result_summary") or {}).items():
        print(f"  {output.clean(name)}: {output.clean(value)}")


def _exit_code(outcomes: list[Outcome], wanted: int) -> int:
    bad = [one for one in outcomes if one.exit_code != exits.OK]
    if not bad and len(outcomes) == wanted:
        return exits.OK
    if wanted == 1:
        return bad[0].exit_code
    return exits.PARTIAL if len(bad) < len(outcomes) else exits.FAILED


def life_s(text: str) -> int:
    """Read a time such as `90`, `30m`, `24h`, `7d`, in seconds."""
    found = _LIFE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text}: a number with s, m, h or d, such as 24h")
    return int(found[1]) * _UNITS[found[2]]


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("commands", "Collect data from agents, online or not.")
    words = parser.add_subparsers(
        dest="word", required=True, metavar="templates|run|ls|show|cancel"
    )
    output.add_format(words.add_parser("templates", help="what can be asked for"))
    _add_run(words.add_parser("run", help="ask agents for something"))
    listed = words.add_parser("ls", help="commands, newest first")
    listed.add_argument("agent", nargs="?", metavar="AGENT", help="of one agent")
    listed.add_argument("--state", help="requested, accepted, running, completed or failed")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="default 50")
    shown = words.add_parser("show", help="one command and its result")
    shown.add_argument("id", metavar="ID")
    shown.add_argument("--save-artifact", type=Path, metavar="FILE", help="download its artifact")
    for one in (listed, shown):
        output.add_format(one)
    words.add_parser("cancel", help="end commands that have not ended").add_argument(
        "ids", nargs="+", metavar="ID"
    )
    return parser.parse_args(argv)


def _add_run(run_word: argparse.ArgumentParser) -> None:
    add = run_word.add_argument
    add("type", metavar="TYPE", help="see `jackline commands templates`")
    add("agents", nargs="*", metavar="AGENT", help="names or ids")
    add("--tag", help="every agent with this tag")
    add("--param", action="append", default=[], metavar="NAME=VALUE", help="value: JSON or text")
    add("--params", metavar="JSON", help="all parameters as one object")
    add("--when-offline", choices=("queue", "skip", "fail"), default="queue", help="default: queue")
    add("--expires-in", type=life_s, metavar="24h", help="how long an agent may take to fetch it")
    add("--key", help="the idempotency key: the same key and request again is the same command")
    add("--wait", action="store_true", help="until every command has ended")
    add("--timeout", type=life_s, default=3600, metavar="1h", help="how long to wait for each")
    add("--concurrency", type=int, default=10, metavar="N", help="how many at once; default 10")
    add("--waves", metavar="1,10,50%%", help="sizes of the waves, the last one repeated; waits")
    add("--max-failures", metavar="N|P%%", help="no more are asked once more have failed; waits")
    output.add_format(run_word)
