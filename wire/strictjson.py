"""Strict JSON in: what two parsers could read differently is refused.

Rules: UTF-8 only; no repeated keys, no NaN or infinities, no numbers beyond 64 bits or a double,
no lone surrogates, nothing deeper than the interpreter's recursion. A number that is written as a
fraction or with an exponent but is whole becomes an int: fielded peers write `80.0`.

Source: RFC 8259, section 4 and 8; RFC 7493 (I-JSON).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from wire.limits import MAX_SAFE_INTEGER

_MAX_INT_CHARS = 20
_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1


def parse(payload: bytes | str) -> Any:
    """Parse one JSON text.

    Raises:
        ValueError: it is not strict JSON.
        RecursionError: it is nested too deep.
    """
    if isinstance(payload, str):
        payload.encode()  # a lone surrogate in the text itself
        text = payload
    else:
        text = payload.decode()
    value = _DECODER.decode(text)
    if "\\ud" in text or "\\uD" in text:
        _refuse_surrogates(value)
    return value


def dump(value: object) -> str:
    """Give an already parsed value back as JSON text, to be parsed strictly.

    Raises:
        ValueError, TypeError, RecursionError: it did not come from JSON.
    """
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _refuse_surrogates(value: object) -> None:
    """Escapes may spell half a surrogate pair; such a str cannot be encoded."""
    dump(value).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        raise ValueError("a key is given twice")
    return built


def _int(digits: str) -> int:
    if len(digits) <= _MAX_INT_CHARS and _MIN_INT <= (number := int(digits)) <= _MAX_INT:
        return number
    raise ValueError("a number is too large")


def _float(digits: str) -> int | float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    if number.is_integer() and abs(number) <= MAX_SAFE_INTEGER:
        return int(number)
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_int, parse_float=_float, parse_constant=_constant
)
