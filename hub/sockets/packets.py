"""Socket.IO packets as text: read strictly, written for one namespace. Pure.

Rules: an event's payload is never parsed here; it goes on as the JSON text that it is. What is no
packet is a `ProtocolError`, whatever it is: the peer is then not one that we know, and its socket
is closed. No event of ours carries bytes: a binary one is read as far as its announcement.

Source: Socket.IO protocol 5, "Packet encoding"; fault cases D.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from hub.errors import ProtocolError

CONNECT, DISCONNECT, EVENT, ACK = "0", "1", "2", "3"
BINARY_EVENT, BINARY_ACK = "5", "6"
MAX_ATTACHMENTS = 99
_HEAD = re.compile(
    r"(?P<kind>[012356])(?:(?P<attachments>[0-9]{1,4})-)?"
    r"(?P<namespace>/[A-Za-z0-9_.-]{0,64})?(?:\?[^,]{0,4096})?,?(?P<id>[0-9]{1,18})?",
    re.ASCII,
)
_ARGUMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_NAME = msgspec.json.Decoder(str)


class Packet(NamedTuple):
    """One packet: `body` is the JSON behind its head, possibly empty."""

    kind: str
    namespace: str
    ack_id: int | None
    attachments: int
    body: str


class Event(NamedTuple):
    """An event's name and its first argument's JSON, empty without one."""

    name: str
    payload: bytes


def read(text: str) -> Packet:
    """Read one packet.

    Raises:
        ProtocolError: it is none.
    """
    head = _HEAD.match(text)
    if head is None:
        raise ProtocolError("no Socket.IO packet")
    kind, attachments = head["kind"], int(head["attachments"] or 0)
    if (attachments > 0) is not (kind in (BINARY_EVENT, BINARY_ACK)):
        raise ProtocolError("attachments where none may be, or none where some must be")
    if attachments > MAX_ATTACHMENTS:
        raise ProtocolError("too many attachments")
    ack_id = None if head["id"] is None else int(head["id"])
    return Packet(kind, head["namespace"] or "/", ack_id, attachments, text[head.end() :])


def event(packet: Packet) -> Event:
    """Read what an event packet carries.

    Raises:
        ProtocolError: it is no list that begins with a name.
    """
    try:
        arguments = _ARGUMENTS.decode(packet.body)
        name = _NAME.decode(arguments[0])
    except (ValueError, IndexError, RecursionError) as error:
        raise ProtocolError("no event") from error
    return Event(name, bytes(arguments[1]) if len(arguments) > 1 else b"")


def auth(packet: Packet) -> object:
    """Read what a CONNECT packet carries.

    Raises:
        ProtocolError: it is no JSON object.
    """
    if not packet.body:
        return None
    try:
        value: object = msgspec.json.decode(packet.body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("no CONNECT packet") from error
    if not isinstance(value, dict | None):
        raise ProtocolError("no CONNECT packet")
    return value


def event_text(namespace: str, name: str, payload: bytes) -> str:
    """Write an event; `name` needs no escape."""
    return f'{EVENT}{namespace},["{name}",{payload.decode()}]'


def ack_text(namespace: str, ack_id: int, argument: bytes | None = None) -> str:
    """Write an acknowledgement, empty or with one argument in JSON."""
    return f"{ACK}{namespace},{ack_id}[{'' if argument is None else argument.decode()}]"


def disconnect_text(namespace: str) -> str:
    """Write that a namespace is left."""
    return f"{DISCONNECT}{namespace},"
