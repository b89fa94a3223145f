"""Hypothesis strategies: any JSON value, and any valid payload of a message class."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec import inspect as mi

from wire.events import TABLE, Direction, Message

FUZZ = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

ROWS = [(direction, name) for direction in Direction for name in TABLE[direction]]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ID = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def payloads(direction: Direction, name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Valid payloads as JSON objects."""
    info = mi.type_info(TABLE[direction][name])
    assert isinstance(info, mi.StructType)
    return _struct(info)


def messages(direction: Direction, name: str) -> st.SearchStrategy[Message]:
    cls: Any = TABLE[direction][name]
    return payloads(direction, name).map(lambda payload: msgspec.convert(payload, cls))


def _struct(info: mi.StructType) -> st.SearchStrategy[dict[str, Any]]:
    required = {f.encode_name: _value(f.type) for f in info.fields if f.required}
    optional = {f.encode_name: _value(f.type) for f in info.fields if not f.required}
    return st.fixed_dictionaries(required, optional=optional)


def _value(info: mi.Type) -> st.SearchStrategy[Any]:
    match info:
        case mi.StructType():
            return _struct(info)
        case mi.UnionType(types=types):
            return st.one_of([_value(one) for one in types])
        case mi.VarTupleType(item_type=item):
            return st.lists(_value(item), max_size=5)
        case mi.DictType(value_type=value):
            return st.dictionaries(TEXT, _value(value), max_size=4)
        case mi.LiteralType(values=values):
            return st.sampled_from(values)
        case _:
            pass
    return _scalar(info)


def _scalar(info: mi.Type) -> st.SearchStrategy[Any]:
    match info:
        case mi.IntType(ge=low, le=high):
            return st.integers(-(2**53) if low is None else low, 2**53 if high is None else high)
        case mi.FloatType(ge=low, le=high):
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case mi.StrType(pattern=None, max_length=longest):
            return TEXT.map(lambda text: text[:longest])
        case mi.StrType(pattern=pattern):
            is_port = "0-9" in (pattern or "")
            return st.from_regex("[0-9]{0,5}", fullmatch=True) if is_port else ID
        case _:
            pass
    return {mi.NoneType: st.none(), mi.BoolType: st.booleans(), mi.AnyType: JSON}[type(info)]
