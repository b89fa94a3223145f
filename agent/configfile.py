"""Read one configuration file, JSON or YAML, into plain values, and trust nothing about it.

Rules: the file is opened once and judged by its descriptor (regular, small, not writable by
everybody); a link is followed, because configuration is often mounted as one. Duplicate keys, a
byte order mark and numbers that are none are faults, never a guess.
Source: contract part 3; cases J "Config".
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

from agent.errors import ConfigError, Fault

MAX_BYTES = 1024 * 1024
SUFFIXES = (".json", ".yaml", ".yml")


def read(path: Path) -> dict[str, Any]:
    """Return the mapping that a configuration file holds.

    Args:
        path: `*.json` is JSON and `*.yaml`, `*.yml` YAML; with another name, what starts with `{`
            is JSON.

    Returns:
        The top-level mapping, as written: values may be of any JSON type.

    Raises:
        ConfigError: with one fault, which names the file.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as e:
        raise _error(path, f"is not UTF-8 (byte {e.start})") from e
    if text.startswith("\ufeff"):
        raise _error(path, "starts with a byte order mark; save it as UTF-8 without one")
    if not text.strip():
        raise _error(path, "is empty")
    value = _parse_json(path, text) if _is_json(path, text) else _parse_yaml(path, text)
    if not isinstance(value, dict):
        raise _error(path, "must hold one mapping of keys to values")
    if not all(isinstance(key, str) for key in value):
        raise _error(path, "has a key that is not text")
    return value


def read_bytes(path: Path) -> bytes:
    """Return a small regular file's content.

    Args:
        path: may be a link.

    Raises:
        ConfigError: with one fault, which names the file.
    """
    # O_NONBLOCK: opening a FIFO must not wait for somebody to write.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as e:
        raise _error(path, f"cannot be read: {e.strerror}") from e
    try:
        _check(path, os.fstat(fd))
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(MAX_BYTES)
    except OSError as e:
        raise _error(path, f"cannot be read: {e.strerror}") from e
    finally:
        os.close(fd)


def _check(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise _error(path, "is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise _error(path, "is not a regular file")
    if found.st_size == 0:
        raise _error(path, "is empty")
    if found.st_size > MAX_BYTES:
        raise _error(path, f"is larger than {MAX_BYTES // 1024} KiB")
    if sys.platform == "win32":
        return
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        raise _error(path, f"mode {mode:04o}: everybody may write it; `chmod o-w {path}`")


def _is_json(path: Path, text: str) -> bool:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return suffix == ".json"
    return text.lstrip().startswith("{")


def _parse_json(path: Path, text: str) -> Any:
    def refuse_constant(word: str) -> NoReturn:
        raise _error(path, f"holds {word}, which is no number")

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _error(path, f"has the key {key!r} twice")
            found[key] = value
        return found

    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=refuse_duplicates)
    except json.JSONDecodeError as e:
        raise _error(path, f"is not JSON: {e.msg} in line {e.lineno}, column {e.colno}") from e
    except ValueError as e:
        raise _error(path, "holds a number with too many digits") from e
    except RecursionError as e:
        raise _error(path, "is nested too deeply") from e


def _parse_yaml(path: Path, text: str) -> Any:
    import yaml  # 40 ms: only who has a YAML file waits for it

    class Loader(yaml.SafeLoader):
        """Safe values, each key once, no aliases (a few bytes of them unfold into gigabytes)."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise _error(path, "uses a YAML alias (*name); write the value out")
            return super().compose_node(parent, index)

        def construct_mapping(
            self, node: yaml.MappingNode, deep: bool = False
        ) -> dict[Hashable, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise _error(path, f"has the key {twice!r} twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506  # derives from SafeLoader
    except yaml.MarkedYAMLError as e:
        where = f" in line {e.problem_mark.line + 1}" if e.problem_mark else ""
        raise _error(path, f"is not YAML: {e.problem or e.context}{where}") from e
    except (yaml.YAMLError, ValueError) as e:
        raise _error(path, "is not YAML") from e
    except RecursionError as e:
        raise _error(path, "is nested too deeply") from e


def _error(path: Path, reason: str) -> ConfigError:
    return ConfigError([Fault(str(path), reason)])
