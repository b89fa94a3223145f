"""Does a tenant's policy let this machine do that? Pure.

Rules: deny wins; the answer is a sentence that names the section and the key, or None. Commands are
split like POSIX `shlex`; where a list of commands counts, an unquoted or expanding metacharacter is
refused here as it is by our agents, because a foreign agent might give it to a shell.
Source: contract 1.4; fault cases B ("allowedCommands bypass attempts").
"""

from __future__ import annotations

import shlex
from typing import Literal

from hub.policy.document import PolicyDocument, Section

Family = Literal["admin", "shell", "keys", "backup", "files", "tools"]
CRON_FORM = "crontab -"
_UNQUOTED = frozenset(";|&<>()$`\n\r\0")
_IN_DOUBLE_QUOTES = frozenset("$`\0")


def refusal(
    document: PolicyDocument, tags: list[str], family: Family, command: str | None = None
) -> str | None:
    """Return why a machine may not do something, or None.

    Args:
        command: of an `admin` request; the form that installs a crontab counts as `CRON_FORM`.
    """
    for name, section in document.sections(tags):
        why = _by_profile(section, family) or _by_admin(section, family, command)
        if why is not None:
            return f"{name}: {why}"
    return None


def _by_profile(section: Section, family: Family) -> str | None:
    if section.profile == "reporter" or (section.profile == "operator" and family == "shell"):
        return f"profile `{section.profile}` allows no {family}"
    return None


def _by_admin(section: Section, family: Family, command: str | None) -> str | None:
    if family == "shell" and section.admin.enableShell is False:
        return "admin.enableShell is false"
    allowed = section.admin.allowedCommands
    if family != "admin" or command is None or allowed is None or "*" in allowed:
        return None
    argv = split(command)
    if argv is None:
        return "admin.allowedCommands: the command cannot be split, or asks for a shell"
    if any(_leads(entry, argv) for entry in allowed):
        return None
    return "admin.allowedCommands does not list the command"


def _leads(entry: str, argv: list[str]) -> bool:
    tokens = split(entry)
    return bool(tokens) and argv[: len(tokens or ())] == tokens


def split(command: str) -> list[str] | None:
    """Split a command; None where it cannot be, or where a shell would see more than words."""
    try:
        argv = shlex.split(command)
    except ValueError:
        return None
    return None if _has_metacharacters(command) else argv


def _has_metacharacters(command: str) -> bool:
    quote: str | None = None
    is_escaped = False
    for char in command:
        if is_escaped:
            is_escaped = False
            if char in "\n\0":
                return True
        elif char == "\\" and quote != "'":
            is_escaped = True
        elif quote is None:
            if char in _UNQUOTED:
                return True
            quote = char if char in "'\"" else None
        elif char == quote:
            quote = None
        elif quote == '"' and char in _IN_DOUBLE_QUOTES:
            return True
    return False
