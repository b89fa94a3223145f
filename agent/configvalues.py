"""Turn what a file or a variable says into a value of a key's type, or say why it is none.

Rules: pure; nothing is converted on a guess (`"60"` in a file is text, not a number); a secret's
value never gets into a message.
Source: contract part 3.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from agent.configkeys import Key

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off")
# Over 30 years: whoever writes that means something else, and clocks overflow.
MAX_NUMBER = 1_000_000_000
# The words of the loggers that fielded agents use.
LEVELS = {
    "debug": "debug",
    "trace": "debug",
    "verbose": "debug",
    "silly": "debug",
    "info": "info",
    "notice": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "fatal": "error",
}


def from_text(key: Key, text: str) -> Any:
    """Read a variable.

    Args:
        key: whose type decides: lists are comma lists (or JSON), mappings are JSON.
        text: the variable's value.

    Returns:
        A plain value, still to be given to `convert`.

    Raises:
        ValueError: with the reason, as a sentence without its full stop.
    """
    types = _alternatives(key.type)
    if bool in types:
        return _boolean(text)
    if int in types:
        return _number(text, int, "must be a whole number")
    if float in types:
        return _number(text, float, "must be a number")
    if any(get_origin(one) in (list, dict) for one in types):
        return _several(text, types)
    return str(text)


def convert(key: Key, value: Any) -> Any:
    """Check a plain value against its key.

    Args:
        key: what it is for.
        value: as JSON has it; None means absent.

    Returns:
        The value; the default where it is absent or a number of 0 or less.

    Raises:
        ValueError: with the reason, as a sentence without its full stop.
    """
    if value is None:
        return key.default
    _check_sanity(value)
    if isinstance(value, float) and int in _alternatives(key.type) and value.is_integer():
        value = int(value)
    try:
        value = msgspec.convert(value, key.type)
    except (msgspec.ValidationError, RecursionError) as e:
        raise ValueError(f"must be {describe(key.type)}, not {_kind(value)}") from e
    if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
        return key.default
    checker = _CHECKS.get(key.name)
    return checker(value) if checker else value


def shown(key: Key, value: Any) -> str:
    """Return a value as a message may show it: one short line, a secret hidden."""
    if key.is_secret:
        return "(hidden)" if value not in (None, "") else "(empty)"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = f"({_kind(value)})"
    # A URL may carry a password; `config show` is pasted into tickets.
    text = re.sub(r"(://[^/@\s:]*):[^/@\s]*@", r"\1:(hidden)@", text)
    return text if len(text) <= 120 else f"{text[:117]}..."


def describe(type_: Any) -> str:
    """Name a type in words: `a list of texts`."""
    words = [_describe_one(one) for one in _alternatives(type_) if one is not type(None)]
    return " or ".join(words)


def _describe_one(type_: Any) -> str:
    origin = get_origin(type_)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(type_)))
    if origin is list:
        return "a list of " + ("texts" if get_args(type_) == (str,) else "mappings")
    if origin is dict:
        of = get_args(type_)[1]
        return "a mapping of names to whole numbers" if of is int else "a mapping"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(type_, str(type_))


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return type(value).__name__


def _alternatives(type_: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type alone."""
    if get_origin(type_) is None or get_origin(type_) in (Literal, list, dict):
        return (type_,)
    return get_args(type_)


def _check_sanity(value: Any, depth: int = 0) -> None:
    """Refuse what no key can mean, at any depth."""
    match value:
        case bool():
            return
        case int() | float():
            if not math.isfinite(value) or abs(value) > MAX_NUMBER:
                raise ValueError("is out of range")
        case str():
            _check_text(value)
        case list() | dict():
            if depth > 16:
                raise ValueError("is nested too deeply")
            for item in value.values() if isinstance(value, dict) else value:
                _check_sanity(item, depth + 1)
        case _:
            return


def _check_text(value: str) -> None:
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise ValueError("is not UTF-8") from e


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError("must be true or false")


def _number(text: str, type_: type[int | float], reason: str) -> int | float:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\s*", text, re.ASCII):
        raise ValueError(reason)
    try:
        return type_(text)
    except ValueError as e:
        raise ValueError(reason) from e


def _several(text: str, types: tuple[Any, ...]) -> Any:
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as e:
            raise ValueError("is not JSON") from e
    if list[str] not in types:
        raise ValueError("must be JSON")
    return [item.strip() for item in text.split(",") if item.strip()]


def _client_id(value: str) -> str:
    if not CLIENT_ID.fullmatch(value):
        raise ValueError("must be 1 to 128 of the characters A-Z a-z 0-9 . _ -")
    return value


def _server_url(value: str) -> str:
    try:
        parts = urlsplit(value.strip())
        _ = parts.port
    except ValueError as e:
        raise ValueError("is not a URL") from e
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        raise ValueError("must be a URL that starts with https:// (or http://)")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or a password")
    return value.strip()


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _level(value: str) -> str:
    if value.lower() not in LEVELS:
        raise ValueError("must be one of debug, info, warning, error")
    return LEVELS[value.lower()]


def _path(value: str) -> str:
    stripped = value.strip().strip("/")
    if not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", stripped):
        raise ValueError("must be the path part of a URL")
    return f"/{stripped}"


_CHECKS = {
    "clientId": _client_id,
    "serverUrl": _server_url,
    "authToken": _not_blank,
    "logging.level": _level,
    "transport.path": _path,
}
