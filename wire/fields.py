"""The base of every payload, and the field types that families share.

Rules: one frozen, keyword-only Struct per row of the contract; names are camel-cased on the wire;
an optional field is None when absent and is then not sent (`null` is read as absent); unknown
fields are ignored. `OURS` names the fields that a foreign peer must not be sent: the value is the
feature that they need, or LISTED for any peer that sent a list at all.

Leniency: fielded peers are Node and Go programs, so an integer may come as `80.0` and a duration
with a fraction. Identifiers are held to a length and to printable characters. What a policy or a
family judges (a command, a path, a host, a login) is any string: a refusal there has its own
reason, which a shape error would hide.

Source: contract 1.1, 1.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from wire import limits

LISTED = ""

# No control characters, and no newline before the end either, which `$` alone would let pass.
_PRINTABLE = r"^[^\x00-\x1f\x7f]+(?![\s\S])"

Id = Annotated[str, Meta(min_length=1, max_length=limits.MAX_ID_CHARS, pattern=_PRINTABLE)]
# Echoed, never a key; "" is what a server without a command token may send.
Token = Annotated[str, Meta(max_length=limits.MAX_TOKEN_CHARS)]
Name = Annotated[str, Meta(max_length=limits.MAX_NAME_CHARS)]
Count = Annotated[int, Meta(ge=0, le=limits.MAX_SAFE_INTEGER)]
Grant = Annotated[int, Meta(ge=1, le=limits.MAX_SAFE_INTEGER)]
Cells = Annotated[int, Meta(ge=limits.MIN_TERMINAL_CELLS, le=limits.MAX_TERMINAL_CELLS)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
# Whole ones stay whole when a stored event is read and sent again: some peers take no `3.0`.
Millis = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0)]
Amount = int | float
# A moment: milliseconds since the epoch or ISO 8601, as the peer has it.
Stamp = int | float | Annotated[str, Meta(max_length=64)]
# A signal by number, or by name as Node has it.
Signal = int | Name


class Payload(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=True
):
    """What one event carries."""

    OURS: ClassVar[Mapping[str, str]] = {}


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An object inside a payload."""
