"""What an agent can be asked to collect: titles, risks and typed parameters.

Rules: the parameters' JSON Schema is made from the wire's own struct, so API, command line, console
and agent cannot differ; whatever is not listed here cannot be asked for.
Source: contract part 2 (phase-1 types); issue 5 "Commands".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from hub.errors import BadRequestError
from wire.bodies import Body
from wire.commands import CollectInventory, CollectTelemetry, CommandType
from wire.problem import Code


@dataclass(frozen=True)
class Template:
    """One kind of command."""

    command_type: CommandType
    title: str
    about: str
    risk: str
    params: type[Body]

    @functools.cached_property
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its parameters; what it does not name is refused."""
        made = msgspec.json.schema(self.params, ref_template="#/$defs/{name}")
        schema = dict(made["$defs"][self.params.__name__])
        schema.pop("title", None)
        return schema | {"additionalProperties": False}


TEMPLATES = {
    one.command_type.value: one
    for one in (
        Template(
            CommandType.COLLECT_INVENTORY,
            "Collect the inventory",
            "What the machine is made of and what is installed on it.",
            "reads",
            CollectInventory,
        ),
        Template(
            CommandType.COLLECT_TELEMETRY,
            "Collect telemetry",
            "Samples of load, memory, disks and network, taken now.",
            "reads",
            CollectTelemetry,
        ),
    )
}


def check(command_type: str, params: dict[str, Any]) -> Template:
    """Return the template of a request whose parameters fit it.

    Raises:
        BadRequestError: `unsupported_type`, `bad_params`.
    """
    template = TEMPLATES.get(command_type)
    if template is None:
        known = ", ".join(sorted(TEMPLATES))
        raise BadRequestError(
            f"command_type: there is {known} and no other", code=Code.UNSUPPORTED_TYPE
        )
    faults = [
        {"where": ".".join(["params", *map(str, fault.absolute_path)]), "what": fault.message[:200]}
        for fault in Draft202012Validator(template.schema).iter_errors(params)
    ]
    if faults:
        raise BadRequestError(
            "params do not fit the command's schema", code=Code.BAD_PARAMS, faults=faults[:10]
        )
    return template
