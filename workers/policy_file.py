"""Read policy.yaml: what the machine's owner allows, with the line of every word of it.

Rules: all faults are found before anything is said; an unknown key is a fault, because a
restriction with a typing error restricts nothing; so is a key without a value, because nobody knows
whether "none" or "not said" is meant. Aliases are refused: a few bytes of them unfold into
gigabytes. The tenant's policy comes as plain values and is read by the same rules.
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import msgspec

from workers.errors import PolicyError, PolicyFault
from workers.policy_sections import Sections

MAX_BYTES = 1 << 20
FILE_NAME = "policy.yaml"

_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "a mapping of keys to values",
    "str": "text",
}
_PLAIN_TAGS = tuple(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)
_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`(?: - at `\$(.*)`)?")


@dataclass(frozen=True)
class Document:
    """What one side says. `lines`: where each dotted key and list item stands, from 1."""

    source: str
    said: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def says(self, key: str) -> bool:
        """Tell whether the dotted `key` is written there."""
        value: Any = self.said
        for word in key.split("."):
            if not isinstance(value, Mapping) or word not in value:
                return False
            value = value[word]
        return True

    def where(self, key: str) -> str:
        """Return `policy.yaml:12` for a key or `key[0]`, the nearest line above if it has none."""
        while key and key not in self.lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return f"{self.source}:{self.lines[key]}" if key else self.source


def read(path: Path) -> Document | None:
    """Return what policy.yaml says, or None where there is no such file.

    Raises:
        PolicyError: with every fault; print them and exit 78. Never go on without the file.
    """
    try:
        text = _read_text(path)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise _error(path, f"cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise _error(path, f"is not UTF-8 (byte {e.start})") from e
    return parse(text, path.name)


def parse(text: str, source: str) -> Document:
    """Return what the YAML `text` says; `source` names it in faults.

    Raises:
        PolicyError: with every fault.
    """
    walk = _Walk(source)
    try:
        said = walk.load(text)
    except RecursionError as e:
        raise PolicyError([PolicyFault(source, "is nested too deeply")]) from e
    document = Document(source, said, walk.lines)
    faults = [*walk.faults, *check(document)]
    if faults:
        raise PolicyError(faults)
    return document


def check(document: Document) -> list[PolicyFault]:
    """Return everything that is wrong with the shape of what `document` says."""
    return [
        PolicyFault(key, reason, shown(key, value), document.where(key))
        for key, value, reason in _faults(Sections, document.said, "")
    ]


def shown(key: str, value: Any) -> str | None:
    """Return a value as a fault shows it: short, and never a secret."""
    if value is None or key.endswith("commandToken"):
        return None
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def applied(base: Sections, said: Mapping[str, Any]) -> Sections:
    """Return `base` with everything replaced that is said (by checked values)."""
    merged = _merged(msgspec.to_builtins(base), said)
    return msgspec.convert(merged, Sections)


def _merged(base: dict[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in said.items():
        below = out.get(key)
        is_section = isinstance(value, Mapping) and isinstance(below, dict) and key != "tools"
        out[key] = _merged(below, value) if is_section and below is not None else value
    return out


def _faults(
    struct: type[msgspec.Struct], said: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any, str]]:
    fields = {each.encode_name: each.type for each in msgspec.structs.fields(struct)}
    for word, value in said.items():
        key = f"{prefix}{word}"
        if word not in fields:
            yield key, None, f"is no key of the policy{_suggestion(word, fields)}"
        elif value is None:
            yield key, None, "has no value; write [] for none, or leave the key out"
        elif _is_section(fields[word]):
            if isinstance(value, Mapping):
                yield from _faults(fields[word], value, f"{key}.")
            else:
                yield key, value, "must be a mapping of keys to values"
        else:
            yield from _value_faults(key, value, fields[word])


def _value_faults(key: str, value: Any, wanted: Any) -> Iterator[tuple[str, Any, str]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield key, value, "must be a number"
        return
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as e:
        below, reason = _reason(str(e), wanted)
        yield f"{key}{below}", value, reason


def _reason(text: str, wanted: Any) -> tuple[str, str]:
    """Turn msgspec's sentence into the place below the key and a sentence of ours."""
    choices = [choice for choice in get_args(wanted) if isinstance(choice, str)]
    if choices:
        return "", f"must be one of {', '.join(choices)}"
    match = _EXPECTED.match(text)
    if match is None:
        return "", text.replace("`", "'")
    kinds = [_WORDS.get(kind, kind) for kind in match[1].split(" | ") if kind != "null"]
    return match[3] or "", f"must be {' or '.join(kinds)}, not {_WORDS.get(match[2], match[2])}"


def _is_section(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)


def _suggestion(word: str, known: Mapping[str, Any]) -> str:
    import difflib  # only who mistyped waits for it

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


class _Walk:
    """Turn YAML nodes into plain values, noting lines and faults on the way."""

    def __init__(self, source: str) -> None:
        self.lines: dict[str, int] = {}
        self.faults: list[PolicyFault] = []
        self._source = source

    def load(self, text: str) -> Mapping[str, Any]:
        import yaml  # 40 ms: only who has a policy.yaml waits for it

        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
                raise _error(self._source, "uses a YAML alias (*name); write the value out")
            self._loader = yaml.SafeLoader(text)
            node = self._loader.get_single_node()
            value = {} if node is None else self._value(node, "")
        except yaml.MarkedYAMLError as e:
            at = f" in line {e.problem_mark.line + 1}" if e.problem_mark else ""
            raise _error(self._source, f"is not YAML: {e.problem or e.context}{at}") from e
        except (yaml.YAMLError, ValueError) as e:
            raise _error(self._source, "is not YAML") from e
        if not isinstance(value, dict):
            raise _error(self._source, "must hold one mapping of keys to values")
        return value

    def _value(self, node: Any, key: str) -> Any:
        self.lines.setdefault(key, node.start_mark.line + 1)
        if not node.tag.startswith(_PLAIN_TAGS):
            raise _error(self._source, f"uses the YAML tag {node.tag}; write plain values")
        if node.id == "mapping":
            return self._mapping(node, key)
        if node.id == "sequence":
            return [self._value(item, f"{key}[{i}]") for i, item in enumerate(node.value)]
        return self._loader.construct_object(node, deep=True)

    def _mapping(self, node: Any, key: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in node.value:
            word = name.value if name.id == "scalar" else "?"
            below = f"{key}.{word}" if key else word
            line = name.start_mark.line + 1
            if word in found:
                where = f"{self._source}:{line}"
                self.faults.append(PolicyFault(below, "is written twice", None, where))
            self.lines[below] = line
            found[word] = self._value(value, below)
        return found


def _read_text(path: Path) -> str:
    # O_NONBLOCK: opening a FIFO must not wait for somebody to write.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _error(path, "is not a regular file")
        if found.st_size > MAX_BYTES:
            raise _error(path, f"is larger than {MAX_BYTES // 1024} KiB")
        if sys.platform != "win32" and found.st_mode & stat.S_IWOTH:
            raise _error(path, f"everybody may write it; `chmod o-w {path}`")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(MAX_BYTES).decode("utf-8")
    finally:
        os.close(fd)


def _error(path: Path | str, reason: str) -> PolicyError:
    return PolicyError([PolicyFault(str(path), reason)])
