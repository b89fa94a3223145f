"""Socket.IO packets of our namespace as text: written for the sender, read for the receiver. Pure.

Rules: an event's payload is never parsed here; it goes on as the JSON text that it is. What is not
an event or an acknowledgement of our namespace is None: the library reads it. A binary event is
read like any other, its placeholders standing where the bytes were, so that its family refuses it;
the attachments that follow are nobody's.

Source: Socket.IO protocol 5, "Packet encoding"; contract 1.1.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

from agent.connect_auth import NAMESPACE
from agent.errors import MalformedError

DISCONNECT = f"1{NAMESPACE},"
_EVENT = f"2{NAMESPACE},"
_ACK = f"3{NAMESPACE},"
_BINARY = ("5", "6")
_EVENT_BYTES = b"42" + NAMESPACE.encode() + b","
_ACK_BYTES = b"43" + NAMESPACE.encode() + b","
_MAX_ACK_DIGITS = 18

T = TypeVar("T")

_ONE_ARGUMENT = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_ARGUMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_NAME = msgspec.json.Decoder(str)


class Event(NamedTuple):
    """An event: its first argument's JSON, empty without one; `ack_id` if it wants an answer."""

    name: str
    payload: bytes
    ack_id: int | None = None


class Acknowledged(NamedTuple):
    """The server's acknowledgement of one of our finals, with its first argument's JSON."""

    ack_id: int
    argument: bytes = b""


def event_packet(name: str, payload: bytes, ack_id: int | None = None) -> bytes:
    """Write an event as the Engine.IO text that carries it."""
    number = b"" if ack_id is None else str(ack_id).encode()
    return b"".join((_EVENT_BYTES, number, b'["', name.encode(), b'",', payload, b"]"))


def ack_packet(ack_id: int) -> bytes:
    """Write an empty acknowledgement."""
    return b"".join((_ACK_BYTES, str(ack_id).encode(), b"[]"))


def with_id(payload: bytes, event_id: str) -> bytes:
    """Add the `id` of contract 1.7 to an encoded payload, which is never an empty object."""
    return payload[:-1] + b',"id":' + msgspec.json.encode(event_id) + b"}"


def read(text: str) -> Event | Acknowledged | None:
    """Read one Socket.IO packet.

    Returns:
        None for a packet that is the library's to read.

    Raises:
        MalformedError: an event or acknowledgement whose rest is not what it must be.
    """
    if text.startswith(_EVENT):
        return _event(text, len(_EVENT))
    if text.startswith(_ACK):
        number, start = _number(text, len(_ACK))
        if number is None:
            raise MalformedError("an acknowledgement without a number")
        arguments = _decode(_ARGUMENTS, text[start:]) if start < len(text) else []
        return Acknowledged(number, bytes(arguments[0]) if arguments else b"")
    if text.startswith(_BINARY):
        return _binary_event(text)
    return None


def _binary_event(text: str) -> Event:
    count, dash, rest = text[1:].partition("-")
    if text[0] != "5" or not dash or not rest.startswith(NAMESPACE + ","):
        raise MalformedError("a binary packet that is no event of the namespace")
    return _event(text, 1 + len(count) + 1 + len(NAMESPACE) + 1)


def _event(text: str, start: int) -> Event:
    ack_id = None
    if text[start : start + 1] != "[":
        ack_id, start = _number(text, start)
    body = text[start:]
    try:
        name, payload = _ONE_ARGUMENT.decode(body)
        return Event(name, bytes(payload), ack_id)
    except msgspec.ValidationError:
        pass  # none or several arguments
    except (ValueError, RecursionError) as error:
        raise MalformedError("an event that is not JSON") from error
    arguments = _decode(_ARGUMENTS, body)
    if not arguments:
        raise MalformedError("an event without a name")
    name = _decode(_NAME, bytes(arguments[0]))
    return Event(name, bytes(arguments[1]) if len(arguments) > 1 else b"", ack_id)


def _number(text: str, start: int) -> tuple[int | None, int]:
    end = start
    while end < len(text) and "0" <= text[end] <= "9":
        end += 1
    if end - start > _MAX_ACK_DIGITS:
        raise MalformedError("an acknowledgement number of too many digits")
    return (int(text[start:end]) if end > start else None), end


def _decode(decoder: msgspec.json.Decoder[T], text: str | bytes) -> T:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError("arguments that are not JSON") from error
