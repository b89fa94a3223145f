"""Forms from JSON Schema, and back: what a command's template asks for.

Rules: pure; knows the types that templates use (whole and other numbers, texts, truth, one of a
list, several of a list); what a form leaves empty is left out, so that the default counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hub.errors import BadRequestError

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Field:
    """One input. `kind`: `integer`, `number`, `text`, `boolean`, `choice`, `several`."""

    name: str
    kind: str
    label: str
    default: Any = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def fields(schema: Mapping[str, Any]) -> list[Field]:
    """Return the inputs of a schema's properties."""
    return [_field(name, _plain(one)) for name, one in schema.get("properties", {}).items()]


def read(schema: Mapping[str, Any], form: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the parameters that a form holds.

    Args:
        form: every value of each name, as it came.

    Raises:
        BadRequestError: `bad_params`: a number that is none.
    """
    found: dict[str, Any] = {}
    for field in fields(schema):
        values = [text for text in form.get(f"p.{field.name}", []) if text.strip()]
        if values:
            found[field.name] = _value(field, values)
    return found


def checked(model: type[M], **values: Any) -> M:
    """Read a form into an API's own model.

    Raises:
        BadRequestError: the first thing that does not fit, by its name.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])).replace("_", " ")
        raise BadRequestError(f"{where}: {fault['msg']}") from error


def _value(field: Field, values: list[str]) -> Any:
    if field.kind == "several":
        return values
    if field.kind == "boolean":
        return values[0] == "true"
    if field.kind not in ("integer", "number"):
        return values[0]
    if field.kind == "integer":
        return whole(field.label, values[0])
    try:
        number = float(values[0])
    except ValueError as error:
        raise _no_number(field.label, values[0]) from error
    if not math.isfinite(number):
        raise _no_number(field.label, values[0])
    return number


def whole(label: str, text: str) -> int:
    """Read a whole number.

    Raises:
        BadRequestError: `bad_params`: it is none.
    """
    try:
        return int(text)
    except ValueError as error:
        raise _no_number(label, text) from error


def _no_number(label: str, text: str) -> BadRequestError:
    return BadRequestError(f"{label}: a number is needed, not `{text[:40]}`", code="bad_params")


def _field(name: str, schema: Mapping[str, Any]) -> Field:
    label = name.removesuffix("_sec").replace("_", " ").capitalize()
    label += " (s)" if name.endswith("_sec") else ""
    if schema.get("type") == "array":
        choices = _plain(schema.get("items", {})).get("enum", ())
        return Field(name, "several", label, choices=tuple(choices))
    if "enum" in schema:
        return Field(name, "choice", label, schema.get("default"), tuple(schema["enum"]))
    kinds = {"integer": "integer", "number": "number", "boolean": "boolean"}
    return Field(
        name,
        kinds.get(schema.get("type", ""), "text"),
        label,
        schema.get("default"),
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
    )


def _plain(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the branch of an optional value that is not null."""
    for branch in schema.get("anyOf", ()):
        if branch.get("type") != "null":
            return {**schema, **branch}
    return schema
