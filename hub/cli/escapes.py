"""What a person types for us instead of the shell: `~.` and its like, at the start of a line. Pure.

Rules: as ssh has them. A tilde counts only behind a newline or at the very beginning; `~~` is one
tilde; whatever else follows one is sent with it.
Source: ssh(1), "ESCAPE CHARACTERS".
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

HELP = (
    b"\r\nSupported escape sequences:\r\n"
    b"  ~.  end the session\r\n"
    b"  ~d  leave it running, to attach again later\r\n"
    b"  ~?  this message\r\n"
    b"  ~~  a tilde\r\n"
)


class Command(Enum):
    """What was asked of us."""

    END = "."
    LEAVE = "d"
    HELP = "?"


class Typed(NamedTuple):
    """What goes on to the shell, then what is ours, in the order of typing."""

    data: str
    command: Command | None


class Escapes:
    """Takes what is typed, piece by piece."""

    def __init__(self) -> None:
        self._at_start = True
        self._tilde = False

    def take(self, text: str) -> list[Typed]:
        """Split typed text at our commands; a tilde may wait for what follows it."""
        found: list[Typed] = []
        data = ""
        for char in text:
            if self._tilde:
                self._tilde = False
                command = _COMMANDS.get(char)
                if command is not None:
                    found.append(Typed(data, command))
                    data, self._at_start = "", command is Command.HELP
                    continue
                data += "~" if char == "~" else f"~{char}"
                self._at_start = char in "\r\n"
                continue
            if char == "~" and self._at_start:
                self._tilde = True
                continue
            data += char
            self._at_start = char in "\r\n"
        if data:
            found.append(Typed(data, None))
        return found


_COMMANDS = {command.value: command for command in Command}
