"""Make the two sides of a policy out of what was read, and look into them by dotted key.

The machine's side is, weakest first: defaults, `agent-config.json`, `policy.yaml`, environment and
flags. Of the tenant only what it says counts. Pure.
Source: architecture "Policy, one engine"; contract part 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from workers import policy_file
from workers.policy_file import Document
from workers.policy_sections import Sections
from workers.policy_verdict import Side

MACHINE = "this machine"
TENANT = "the tenant"
_STRONGER_THAN_THE_FILE = ("environment", "flag")


def machine(sections: Sections, document: Document | None, origins: Mapping[str, str]) -> Side:
    """Return the machine's side; arguments as for `policy.load`."""
    document = document or Document("no policy.yaml", {})
    strong = {key for key, origin in origins.items() if origin.startswith(_STRONGER_THAN_THE_FILE)}

    def where(key: str) -> str:
        root = key.split("[")[0]
        is_from_document = root not in strong and document.says(root)
        return document.where(key) if is_from_document else origins.get(root, "default")

    return Side(MACHINE, policy_file.applied(sections, _without(document.said, strong)), where)


def tenant(document: Document) -> Side:
    """Return the tenant's side."""
    sections = policy_file.applied(Sections(), document.said)
    return Side(TENANT, sections, document.where, document.says)


def get(sections: Sections, key: str) -> Any:
    """Return the value at a dotted key."""
    value: Any = sections
    for word in key.split("."):
        names = {each.encode_name: each.name for each in msgspec.structs.fields(value)}
        value = getattr(value, names[word])
    return value


def rows(side: Side) -> Iterator[tuple[str, Any, str]]:
    """Return dotted key, value and place of everything that a side says; no secret."""
    for key, value in _flat(msgspec.to_builtins(side.sections), ""):
        if side.says(key):
            if key == "admin.commandToken":
                value = "(set)" if value else ""
            yield key, value, side.where(key)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """A tool's name is below `tools`, and what is below a name is one value."""
    for word, value in values.items():
        is_section = isinstance(value, Mapping) and not prefix.startswith("tools")
        if is_section and (value or word == "tools") and word not in ("retention", "hooks"):
            yield from _flat(value, f"{prefix}{word}.")
        else:
            yield f"{prefix}{word}", value


def _without(said: Mapping[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    return {
        word: _without(value, keys, f"{prefix}{word}.") if isinstance(value, Mapping) else value
        for word, value in said.items()
        if f"{prefix}{word}" not in keys
    }
