"""Writes the protocol's reference: `python -m wire.schema [--check] docs/reference`.

Two JSON Schemas (one for each direction, the payload of every event under `$defs`, `$events` from
event to payload), one for what is said while connecting, and the page that lists the events.
`--check` writes nothing and fails where the files are not what the code says.

Source: wire.events.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from wire.connect import ConnectAuth, Refusal
from wire.events import FINAL_EVENTS, TABLE, Direction
from wire.peers import EVENT_FEATURES

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PAGE_HEAD = """\
Protocol
========

.. Written by ``python -m wire.schema docs/reference``; edit the messages, not this page.

Every event of the live link. The payload schemas are JSON Schema 2020-12:
:download:`to the agent <protocol/to_agent.json>`,
:download:`to the server <protocol/to_server.json>`,
:download:`while connecting <protocol/connect.json>`.

Every payload that we send also carries ``type`` and ``t``, both the event's name; on the way in
both are ignored, like any field that is not listed. ``null`` counts as absent. An event with a
*feature* is used only after both sides have listed it; fields that need one are marked
``x-feature`` in the schemas (``listed``: any peer that sent a list). A *final* event stays with its
sender until it has arrived.
"""


def documents() -> dict[str, str]:
    """Give every file of the reference: path below `docs/reference` -> text."""
    files = {
        f"protocol/{direction.value}.json": _json(_direction(direction)) for direction in Direction
    }
    files["protocol/connect.json"] = _json(_defs([ConnectAuth, Refusal]))
    files["protocol.rst"] = _page()
    return files


def main(argv: list[str]) -> int:
    """Write the reference, or check it."""
    check = "--check" in argv
    places = [word for word in argv if word != "--check"]
    if len(places) != 1:
        sys.stderr.write("usage: python -m wire.schema [--check] DIRECTORY\n")
        return 2
    stale = 0
    for name, text in documents().items():
        path = Path(places[0]) / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if check:
            sys.stderr.write(f"{path} is not what the code says\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


def _direction(direction: Direction) -> dict[str, Any]:
    rows = TABLE[direction]
    document = _defs(list(rows.values()))
    document["$events"] = {
        name: {
            "payload": {"$ref": f"#/$defs/{cls.__name__}"},
            "final": direction is Direction.TO_SERVER and name in FINAL_EVENTS,
            **({"feature": EVENT_FEATURES[name]} if name in EVENT_FEATURES else {}),
        }
        for name, cls in rows.items()
    }
    return document


def _defs(types: list[Any]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    for cls in types:
        for field, feature in getattr(cls, "OURS", {}).items():
            wire_name = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
            properties = components[cls.__name__]["properties"]
            properties[wire_name[field]]["x-feature"] = feature or "listed"
    return {"$schema": _DRAFT, "$defs": dict(sorted(components.items()))}


def _page() -> str:
    parts = [_PAGE_HEAD]
    for direction, title in (
        (Direction.TO_AGENT, "To the agent"),
        (Direction.TO_SERVER, "To the server"),
    ):
        parts.append(f"\n{title}\n{'-' * len(title)}\n\n.. list-table::\n   :header-rows: 1\n")
        parts.append(_row("Event", "Fields", "Feature", "Final"))
        for name, cls in TABLE[direction].items():
            final = direction is Direction.TO_SERVER and name in FINAL_EVENTS
            feature = EVENT_FEATURES.get(name, "")
            parts.append(
                _row(
                    f"``{name}``",
                    _fields(cls),
                    f"``{feature}``" if feature else "",
                    "yes" if final else "",
                )
            )
    return "\n".join(parts) + "\n"


def _row(*cells: str) -> str:
    first, *rest = (f" {cell}".rstrip() for cell in cells)
    return "\n".join([f"   * -{first}", *(f"     -{cell}" for cell in rest)])


def _fields(cls: type[msgspec.Struct]) -> str:
    """Name the fields as the contract does: a question mark where one may be absent."""
    names = []
    for field in msgspec.structs.fields(cls):
        names.append(f"``{field.encode_name}{'' if field.required else '?'}``")
    return ", ".join(names)


def _json(document: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
