"""The base of every HTTP body, and the one way to read and to write it.

Rules: one frozen, keyword-only Struct per body; the names are the wire's own, in snake case; an
optional field is None when absent and is then not sent; unknown fields are ignored. `decode` is
total: a body or a `WireError` whose `event` is the class's name. Moments are ISO 8601 in UTC,
`server_ts` alone is milliseconds since the epoch, as on the live link.

Source: contract part 2.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from wire import limits, strictjson
from wire.errors import WireError

_DETAIL_CHARS = 200
_MAX_FORM_FIELDS = 32

# Years of four digits alone: what a database sorts by must not have another length.
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z(?![\s\S])"

Moment = Annotated[str, Meta(pattern=_MOMENT)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?![\s\S])")]
Pem = Annotated[str, Meta(min_length=1, max_length=limits.MAX_PEM_CHARS)]
Secret = Annotated[str, Meta(min_length=1, max_length=limits.MAX_TOKEN_CHARS)]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s\x00-\x1f\x7f]+(?![\s\S])", max_length=2048)]


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one request or response carries."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object inside a body."""


AnyBody = TypeVar("AnyBody", bound=Body)


def decode(cls: type[AnyBody], raw: bytes, limit: int = limits.MAX_BODY_BYTES) -> AnyBody:
    """Read one body.

    Args:
        cls: what it should be.
        raw: the JSON text as it came, decompressed.
        limit: the most it may measure, in bytes.

    Raises:
        WireError: `too_large` or `bad_request`; nothing of the body's data is in it.
    """
    name = cls.__name__
    if len(raw) > limit:
        raise WireError(name, "too_large", f"over {limit} bytes")
    try:
        return msgspec.convert(strictjson.parse(raw), cls)
    except UnicodeError as error:
        raise WireError(name, "bad_request", "not valid Unicode") from error
    except RecursionError as error:
        raise WireError(name, "bad_request", "nested too deep") from error
    except ValueError as error:
        raise WireError(name, "bad_request", str(error)[:_DETAIL_CHARS]) from error


def decode_form(cls: type[AnyBody], raw: bytes) -> AnyBody:
    """Read a body that came as `application/x-www-form-urlencoded`, which RFC 8628 clients send.

    Raises:
        WireError: as `decode`; a field that is given twice, too.
    """
    name = cls.__name__
    if len(raw) > limits.MAX_BODY_BYTES:
        raise WireError(name, "too_large", f"over {limits.MAX_BODY_BYTES} bytes")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FORM_FIELDS,
        )
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise ValueError("a field is given twice")
        return msgspec.convert(fields, cls, strict=False)
    except UnicodeError as error:
        raise WireError(name, "bad_request", "not valid Unicode") from error
    except ValueError as error:
        raise WireError(name, "bad_request", str(error)[:_DETAIL_CHARS]) from error


def encode(body: Body) -> bytes:
    """Write one body.

    Raises:
        WireError: it holds what JSON cannot.
    """
    try:
        return msgspec.json.encode(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(type(body).__name__, "bad_request", type(error).__name__) from error


def moment(wall_s: float) -> str:
    """Spell a wall-clock time, in seconds since the epoch, as bodies have it."""
    stamp = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def wall_s(moment: str) -> float:
    """Give a moment of a body, of the shape `Moment`, as seconds since the epoch.

    Raises:
        ValueError: there is no such day or hour.
    """
    return datetime.fromisoformat(moment).timestamp()
