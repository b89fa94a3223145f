"""Saves the correlation fields of a payload that is not what it should be.

So that a family can answer the request that was meant. Best effort: a field is given only when it
is a string of sane length; a payload that cannot be parsed is looked at near both ends only, since
it may be huge.

Source: contract 1.1 (a wrong event is answered with that family's error).
"""

from __future__ import annotations

import re
from typing import Any

from wire.limits import MAX_ID_CHARS, MAX_TOKEN_CHARS

_LONG = {"token", "path", "command", "user"}
_FIELDS = ("session", "planId", "jobId", "requestId", "callId", "clientId", "mode", *sorted(_LONG))
_LOOK_AT = 8 * 1024
# A key with its string value. Inside a JSON string every quote stands behind a backslash, so
# that data cannot pass for a field.
_PAIR = re.compile(rf'"({"|".join(_FIELDS)})"[ \t\r\n]*:[ \t\r\n]*"([^"\\\x00-\x1f]{{0,4096}})"')


def from_object(value: object) -> dict[str, str]:
    """Save from a payload that is JSON but has the wrong shape."""
    if not isinstance(value, dict):
        return {}
    found = _sane(value)
    command = value.get("cmd")
    if isinstance(command, dict):
        found.update(_sane({"command": command.get("command")}))
    return found


def from_text(payload: bytes | str) -> dict[str, str]:
    """Save from a payload that is too large to parse, or is not JSON. The first of each counts."""
    found: dict[str, Any] = {}
    for piece in (payload[:_LOOK_AT], payload[-_LOOK_AT:]):
        text = piece if isinstance(piece, str) else piece.decode(errors="replace")
        for name, value in _PAIR.findall(text):
            found.setdefault(name, value)
    return _sane(found)


def _sane(value: dict[str, Any]) -> dict[str, str]:
    return {name: value[name] for name in _FIELDS if _is_sane(name, value.get(name))}


def _is_sane(name: str, value: object) -> bool:
    if not isinstance(value, str):
        return False
    if name in _LONG:
        return len(value) <= MAX_TOKEN_CHARS and _is_utf8(value)
    return 0 < len(value) <= MAX_ID_CHARS and value.isprintable()


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
