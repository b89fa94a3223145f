r"""Cuts text by the bytes that it takes as a JSON string.

The length of a str says little: ESC becomes `\u001b`, six bytes; é stays two. So text is encoded
once and cut there, where a cut falls between two characters and never inside an escape.

Source: RFC 8259, section 7; contract 1.1 (events are measured after encoding).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(str)
_MAX_UNIT_BYTES = 6  # the longest encoding of one character
_BACKSLASH = 0x5C


def encoded_bytes(text: str) -> int:
    """Count the bytes of `text` in JSON, its quotes left out."""
    return len(_ENCODER.encode(text)) - 2


def head(text: str, limit: int) -> str:
    """Give the longest beginning that takes at most `limit` encoded bytes."""
    limit = max(0, limit)
    text = text[:limit]  # no character takes less than a byte
    body = _body(text)
    return text if len(body) <= limit else _text(body[: _floor(body, 0, limit)])


def tail(text: str, limit: int) -> str:
    """Give the longest end that takes at most `limit` encoded bytes."""
    limit = max(0, limit)
    text = text[max(0, len(text) - limit) :]
    body = _body(text)
    if len(body) <= limit:
        return text
    at = len(body) - limit
    cut = _floor(body, 0, at)
    return _text(body[cut if cut == at else cut + _unit_bytes(body, cut) :])


def split_text(data: str, limit: int) -> Iterator[str]:
    """Cut `data` into pieces, in order and complete, of at most `limit` encoded bytes each.

    Args:
        data: any text; nothing is given for "".
        limit: bytes, at least 6, the most that one character takes.

    Raises:
        ValueError: the limit is less, or `data` holds half a surrogate pair.
    """
    if limit < _MAX_UNIT_BYTES:
        raise ValueError(f"a piece of {limit} bytes may not hold one character")
    body = _body(data)
    if len(body) <= limit:
        if data:
            yield data
        return
    start = 0
    while start < len(body):
        end = _floor(body, start, start + limit)
        yield _text(body[start:end])
        start = end


def _body(text: str) -> bytes:
    return _ENCODER.encode(text)[1:-1]


def _text(body: bytes) -> str:
    return _DECODER.decode(b'"' + body + b'"')


def _floor(body: bytes, start: int, at: int) -> int:
    """Give the last place between two characters that is not behind `at`; `start` is one."""
    if at >= len(body):
        return len(body)
    while at > start and body[at] & 0xC0 == 0x80:  # inside a character, three steps at most
        at -= 1
    last = body.rfind(b"\\", max(start, at - _MAX_UNIT_BYTES + 1), at)
    if last < 0:
        return at
    before = body[start : last + 1]
    is_escaped = (len(before) - len(before.rstrip(b"\\"))) % 2 == 0
    if is_escaped or last + _unit_bytes(body, last) <= at:
        return at
    return last


def _unit_bytes(body: bytes, at: int) -> int:
    """Count the bytes of the character that begins at `at`."""
    first = body[at]
    if first == _BACKSLASH:
        return 6 if body[at + 1 : at + 2] == b"u" else 2
    if first < 0xC0:
        return 1
    return 2 if first < 0xE0 else 3 if first < 0xF0 else 4
