"""What is allowed by the letter and may not be meant: said by `config check` and at the start.

Source: contract 1.4 ("entries that are a full escape").
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence

from workers import policy_environment, policy_roots
from workers.policy_commands import LIST
from workers.policy_programs import Entry
from workers.policy_sections import Sections

# They run whatever their arguments name. With a first argument that is no option (a script, a
# command) they run that one and pass the rest on.
_INTERPRETERS = """
    sh bash dash zsh ksh mksh ash fish csh tcsh busybox toybox env python perl ruby node deno bun
    php lua tclsh expect osascript pwsh powershell cmd sudo su doas runuser pkexec setpriv capsh
    chroot unshare nsenter nice ionice nohup timeout stdbuf setsid strace ltrace time watch script
    xargs parallel flock chrt taskset systemd-run at batch java go cargo docker podman kubectl
    nerdctl apt apt-get dpkg rpm yum dnf pip npm gem make gmake cmake systemctl
"""
# They have an option or a command of their own that runs anything or writes any file, and that may
# follow whatever the entry begins with.
_RUNNERS = """
    find fd tar rsync ssh scp sftp awk gawk mawk sed ed ex vi vim nvim view nano emacs less more man
    git tee dd cp mv install ln gdb lldb zip unzip cpio curl wget nc ncat socat openssl sqlite3 psql
    mysql tcpdump nmap screen tmux sort ansible ansible-playbook
"""
_VERSION = "0123456789."
_interpreters = frozenset(_INTERPRETERS.split())
_runners = frozenset(_RUNNERS.split())


def of(sections: Sections, entries: Sequence[Entry], *, has_commands: bool = True) -> list[str]:
    """Return one sentence for each thing that its owner should look at again.

    Args:
        has_commands: the profile includes commands; where it does not, an empty list is no doubt.
    """
    of_commands = _of_commands(sections, entries) if entries or has_commands else ()
    return [*of_commands, *_of_numbers(sections), *_of_places(sections)]


def _of_commands(sections: Sections, entries: Sequence[Entry]) -> Iterator[str]:
    if not entries:
        yield (
            f"{LIST}: empty, so every command is refused (agents that this one may have replaced "
            'take that as all); list the commands to allow, or ["*"] for all of them'
        )
    for entry in entries:
        key, text = f"{LIST}[{entry.index}]", " ".join(entry.argv)
        if entry.is_any:
            yield f"{key}: allows every command"
        elif is_escape(entry.argv):
            yield f"{key}: {text!r} can run or write anything, so the list limits nothing"
        elif any("*" in word for word in entry.argv):
            yield f"{key}: {text!r} holds a *, which is only a wildcard as an entry of its own"
    for name in sections.admin.allowed_env or []:
        if policy_environment.is_never_taken(name):
            yield f"admin.allowedEnv: {name} is never taken from a message, listed or not"


def is_escape(argv: Sequence[str]) -> bool:
    """Tell whether an allow entry lets its user run, or write, anything at all."""
    name = os.path.basename(argv[0]).casefold().removesuffix(".exe")
    if name in _runners:
        return True
    if name.rstrip(_VERSION) not in _interpreters and name not in _interpreters:
        return False
    if len(argv) == 1 or argv[1].startswith("-"):
        return True
    return is_escape(argv[1:])


def _of_numbers(sections: Sections) -> Iterator[str]:
    admin = sections.admin
    if admin.require_token and not admin.command_token:
        yield "admin.commandToken: empty, and admin.requireToken is true: every command is refused"
    if admin.command_token and not admin.require_token:
        yield "admin.commandToken: not looked at, because admin.requireToken is false"


def _of_places(sections: Sections) -> Iterator[str]:
    for key, roots in (
        ("admin.allowedCwds", sections.admin.allowed_cwds),
        ("dirBrowse.allowedRoots", sections.dir_browse.allowed_roots),
        ("backup.allowedSourceRoots", sections.backup.allowed_source_roots),
        ("backup.allowedDestRoots", sections.backup.allowed_dest_roots),
        ("backup.allowedRestoreRoots", sections.backup.allowed_restore_roots),
    ):
        for index, root in enumerate(roots or []):
            if not policy_roots.is_absolute(root):
                yield f"{key}[{index}]: {root!r} is not absolute, so nothing lies in it"
    for folder in (sections.admin.path or "").split(os.pathsep):
        if folder and _everybody_may_write(folder):
            yield f"admin.path: everybody may write {folder}, and so decide what a name runs"


def _everybody_may_write(folder: str) -> bool:
    if sys.platform == "win32":
        return False
    try:
        return bool(os.stat(folder).st_mode & stat.S_IWOTH)
    except OSError:
        return False
