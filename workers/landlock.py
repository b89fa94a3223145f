"""Landlock: what a process may open, and for good, enforced by the kernel.

Rules: one thread; irreversible; layers only ever narrow. Best effort by version: each right is
handled where the running kernel knows it, and `restrict` tells which version that was. Not covered
by Landlock at all: stat, chmod, chown, xattrs and pathname sockets, which `workers.seccomp` closes.
Source: landlock(7), the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

from workers import capabilities
from workers.libc import syscall
from workers.syscall_numbers import X86_64, number

assert sys.platform != "win32"

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13  # since version 2; before, no rename or link between directories at all
TRUNCATE = 1 << 14  # since version 3
IOCTL_DEV = 1 << 15  # since version 5

READ = READ_FILE | READ_DIR
WRITE = (
    READ
    | WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE
)
_FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

_BIND_TCP = 1 << 0  # since version 4
_CONNECT_TCP = 1 << 1
_SCOPE_ABSTRACT_SOCKETS = 1 << 0  # since version 6
_SCOPE_SIGNALS = 1 << 1

_VERSION_FLAG = 1 << 0
_RULE_PATH_BENEATH = 1
_HANDLED_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}

# The three calls have the same numbers on every architecture.
_CREATE_RULESET = number("landlock_create_ruleset", X86_64) or 0
_ADD_RULE = number("landlock_add_rule", X86_64) or 0
_RESTRICT_SELF = number("landlock_restrict_self", X86_64) or 0


class Grant(NamedTuple):
    """Rights (bits of this module) on a path and, for a directory, on all below it."""

    path: str
    rights: int


def version() -> int:
    """Return the kernel's Landlock version, 0 where there is none or it is switched off."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(grants: Iterable[Grant], connect: bool) -> int:
    """Take from this process every right on files that no grant gives.

    A grant whose path does not exist gives nothing. TCP ports can be bound no more, and connected
    to only with `connect`; signals and abstract sockets stop at the processes of this domain.

    Returns:
        The version applied; 0: there is no Landlock here and nothing was done.

    Raises:
        OSError: the kernel has Landlock but refused; the process is not confined.
    """
    level = version()
    if level == 0:
        return 0
    handled = _HANDLED_BY_VERSION[max(each for each in _HANDLED_BY_VERSION if each <= level)]
    ruleset = _create_ruleset(level, handled, connect)
    try:
        for grant in grants:
            _add(ruleset, grant.path, grant.rights & handled)
        capabilities.forbid_new_privileges()  # the kernel wants it of whoever has no CAP_SYS_ADMIN
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return level


def _create_ruleset(level: int, handled: int, connect: bool) -> int:
    network = scoped = 0
    if level >= 4:
        network = _BIND_TCP if connect else _BIND_TCP | _CONNECT_TCP
    if level >= 6:
        scoped = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS
    # Older kernels accept a longer struct as long as what they do not know is zero.
    attributes = struct.pack("=QQQ", handled, network, scoped)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return syscall(_CREATE_RULESET, buffer, len(attributes), 0)


def _add(ruleset: int, path: str, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _FOR_FILES
            attributes = struct.pack("=Qi", rights, descriptor)
            buffer = ctypes.create_string_buffer(attributes, len(attributes))
            if rights:
                syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, buffer, 0)
        finally:
            os.close(descriptor)
