r"""Split a command into its arguments by the rules of Windows programs.

The same names and promises as `commandline`: no shell ever sees the text, what `cmd.exe` would act
upon is refused where it stands unquoted and is data inside double quotes, and the whole is linear
and pure. The rules are those of `CommandLineToArgvW` and the C runtime since 2008: only double
quotes quote; a backslash is itself unless backslashes lead up to a quote (2n of them and a quote:
n backslashes, and the quote opens or closes; 2n+1: n backslashes and a quote as data); two quotes
inside quotes are one as data. The program's own name is split by the same rules, so that a quoted
path with spaces is one word. `%` and `^` are data: nothing expands them where no `cmd.exe` runs.
Source: contract 1.4; Microsoft's "Parsing C++ command-line arguments".
"""

from __future__ import annotations

import re

from workers.commandline import check_characters
from workers.errors import CommandLineError

_SPACE = " \t\r"
_PIECE = re.compile(r'(?P<slashes>\\+)"?|(?P<plain>[^\\" \t\r;|&<>()$`\n]+)|.', re.DOTALL)


def split(command: str) -> list[str]:
    """Return the arguments of `command`, at least one.

    Raises:
        CommandLineError: this cannot be run without a shell, or not at all; refuse it (126).
    """
    check_characters(command)
    words: list[str] = []
    at = _skip_space(command, 0)
    while at < len(command):
        word, at = _read_word(command, at)
        words.append(word)
        at = _skip_space(command, at)
    if not words or not words[0]:
        raise CommandLineError("the command is empty")
    return words


def _skip_space(command: str, at: int) -> int:
    while at < len(command) and command[at] in _SPACE:
        at += 1
    return at


def _read_word(command: str, at: int) -> tuple[str, int]:
    """Return the word that begins at `at`, unquoted, and where it ends."""
    word: list[str] = []
    opened = None  # where the quotes were opened that `at` is inside of
    while match := _PIECE.match(command, at):
        piece = match[0]
        if match["plain"]:
            word.append(piece)
        elif piece[-1] == '"':
            slashes = len(piece) - 1
            word.append("\\" * (slashes // 2))
            if slashes % 2:
                word.append('"')
            elif opened is None:
                opened = match.end() - 1
            elif command.startswith('"', match.end()):
                word.append('"')
                at = match.end() + 1
                continue
            else:
                opened = None
        elif match["slashes"] or opened is not None:
            word.append(piece)
        elif piece in _SPACE:
            break
        else:
            raise _fault(piece, at)
        at = match.end()
    if opened is not None:
        raise CommandLineError(f"the quote at character {opened + 1} is never closed")
    return "".join(word), at


def _fault(found: str, at: int) -> CommandLineError:
    name = "line break" if found == "\n" else found
    return CommandLineError(
        f"unquoted {name} at character {at + 1}: no shell is run; "
        "put it in double quotes to pass it on, or allow a script that does this"
    )
