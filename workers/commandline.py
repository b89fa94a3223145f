"""Split a command into its arguments, and recognise the one pipeline that is no pipeline.

No shell ever sees the text. `split` follows Python's `shlex` in POSIX mode; what a shell would act
upon is refused where it stands unquoted and is data where it is quoted, inside double quotes too.
Pure; linear in the length of the command, some milliseconds for the longest one. The Windows rules
are in `commandline_windows`, under the same names.
Source: contract 1.4.
"""

from __future__ import annotations

import base64
import re

from workers.errors import CommandLineError

MAX_BYTES = 131_072

_ACTS = r";|&<>()$`\n"
_SINGLE = r"'([^']*)'"
_DOUBLE = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_ESCAPED = r"\\([^\n])"
_QUOTED = re.compile(rf"{_SINGLE}|{_DOUBLE}|{_ESCAPED}", re.DOTALL)
# Nothing may follow a word in the pattern, so a match never has to be tried a second way.
_PIECE = rf"[^ \t\r'\"\\{_ACTS}]+|{_SINGLE}|{_DOUBLE}|{_ESCAPED}"
_WORD = re.compile(rf"[ \t\r]*((?:{_PIECE})+)", re.DOTALL)
_SPECIAL = re.compile(rf"['\"\\{_ACTS}]")

# Whatever stands there: base64 that is none is told as that, and not as a pipe without a shell.
_B64 = r"[^\s'\"\\;|&<>()$`]"
_CRONTAB = re.compile(
    r"""[ \t]*(?:echo|printf[ \t]+(?:%s|'%s'|"%s"))[ \t]+"""
    rf"""(?:(?P<bare>{_B64}+)|'(?P<single>{_B64}*)'|"(?P<double>{_B64}*)")"""
    r"[ \t]*\|[ \t]*base64[ \t]+(?:-d|-D|--decode)"
    r"[ \t]*\|[ \t]*crontab[ \t]+-[ \t]*"
)


def split(command: str) -> list[str]:
    """Return the arguments of `command`, at least one.

    Raises:
        CommandLineError: this cannot be run without a shell, or not at all; refuse it (126).
    """
    check_characters(command)
    if _SPECIAL.search(command) is None:
        plain = command.replace("\t", " ").replace("\r", " ").split(" ")
        words = [word for word in plain if word]
    else:
        words = _split_quoted(command)
    if not words:
        raise CommandLineError("the command is empty")
    return words


def recognise_crontab(command: str) -> bytes | None:
    """Return the crontab that `echo <base64> | base64 -d | crontab -` would install.

    Returns:
        The decoded text, or None where the command as a whole is not of that form.

    Raises:
        CommandLineError: it is of that form, but carries no base64, or a NUL; refuse it (126).
    """
    if len(command) > MAX_BYTES:
        return None
    match = _CRONTAB.fullmatch(command)
    if match is None:
        return None
    text = match["bare"] or match["single"] or match["double"] or ""
    try:
        crontab = base64.b64decode(text, validate=True)
    except ValueError:
        raise CommandLineError("what is to become the crontab is not valid base64") from None
    if b"\0" in crontab:
        raise CommandLineError("what is to become the crontab holds a NUL")
    return crontab


def check_characters(command: str) -> None:
    """Refuse what is no text of a command on any system.

    Raises:
        CommandLineError: too long, half of a surrogate pair, or a NUL.
    """
    try:
        size = len(command) if len(command) > MAX_BYTES else len(command.encode())
    except UnicodeEncodeError:
        raise CommandLineError("the command holds half of a surrogate pair") from None
    if size > MAX_BYTES:
        raise CommandLineError(f"the command is longer than {MAX_BYTES} bytes")
    if "\0" in command:
        raise CommandLineError("the command holds a NUL")


def _split_quoted(command: str) -> list[str]:
    words: list[str] = []
    at = 0
    while match := _WORD.match(command, at):
        words.append(_unquote(match[1]))
        at = match.end()
    rest = command[at:].lstrip(" \t\r")
    if rest:
        raise _fault(command, len(command) - len(rest))
    return words


def _unquote(word: str) -> str:
    kinds = [character for character in "'\"\\" if character in word]
    if not kinds:
        return word
    if len(kinds) == 1 and kinds[0] != "\\":
        return word.replace(kinds[0], "")
    return _QUOTED.sub(_unquote_piece, word)


def _unquote_piece(match: re.Match[str]) -> str:
    single, double, escaped = match.groups()
    if double is not None:
        # NUL stands in for an escaped backslash: a command never holds one.
        return double.replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\")
    return single if single is not None else escaped


def _fault(command: str, at: int) -> CommandLineError:
    found = command[at]
    if found in "'\"":
        return CommandLineError(f"the quote {found} at character {at + 1} is never closed")
    if found == "\\":
        return CommandLineError(f"nothing to escape follows the backslash at character {at + 1}")
    name = "line break" if found == "\n" else found
    return CommandLineError(
        f"unquoted {name} at character {at + 1}: no shell is run; "
        "quote it to pass it on, or allow a script that does this"
    )
