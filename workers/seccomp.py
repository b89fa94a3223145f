"""The system calls that a confined kind is refused, as a BPF program for the kernel.

A list of refusals, because the interpreter and its libraries need most of the rest: everything
that reaches another process, the kernel or the machine; and what Landlock does not see of the file
system (chmod, chown, extended attributes, truncation by path). A confined process signals nobody
but itself: `kill` and its like are allowed with its own pid alone (or as signal 0), so it cannot
end children of its own either. It makes no socket but for the internet, where that is allowed, and
for the routing table: so the container engine's, the init system's or our own control socket, which
would trust its uid, are out of reach. Calls younger than `LAST_KNOWN` are answered ENOSYS, to which
every library has an answer.

Rules: one thread; irreversible; needs no_new_privs. `program` is pure.
Source: seccomp(2), linux/filter.h, linux/audit.h, Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from workers.libc import prctl
from workers.syscall_numbers import ARM, LAST_KNOWN, X86_64, Architecture, number

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
ABSENT = 0x00050000 | errno.ENOSYS


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


_OTHER_PROCESSES = _words(
    "pidfd_send_signal ptrace process_vm_readv process_vm_writev process_madvise process_mrelease",
    "pidfd_getfd kcmp perf_event_open setpriority sched_setparam sched_setscheduler sched_setattr",
    "sched_setaffinity ioprio_set move_pages migrate_pages",
    "shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semctl semtimedop",
    "semtimedop_time64 mq_open mq_unlink",
)
_OTHER_PROGRAMS = _words("execve execveat uselib")
_MOUNTS_AND_NAMESPACES = _words(
    "mount umount2 pivot_root chroot mount_setattr move_mount open_tree open_tree_attr fsopen",
    "fsconfig fsmount fspick swapon swapoff quotactl quotactl_fd unshare setns",
)
_KERNEL_AND_MACHINE = _words(
    "bpf userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key",
    "kexec_load kexec_file_load init_module finit_module delete_module create_module reboot",
    "sethostname setdomainname acct syslog vhangup lookup_dcookie _sysctl iopl ioperm modify_ldt",
    "nfsservctl settimeofday clock_settime clock_settime64 clock_adjtime clock_adjtime64 adjtimex",
)
_FILES_BEHIND_LANDLOCK = _words(
    "open_by_handle_at fanotify_init fanotify_mark mknod mknodat chmod fchmod fchmodat fchmodat2",
    "chown fchown lchown fchownat chown32 fchown32 lchown32 setxattr lsetxattr fsetxattr",
    "setxattrat removexattr lremovexattr fremovexattr removexattrat utime utimes futimesat",
    "utimensat utimensat_time64 file_setattr truncate truncate64",
)
REFUSED = (
    *_OTHER_PROCESSES,
    *_OTHER_PROGRAMS,
    *_MOUNTS_AND_NAMESPACES,
    *_KERNEL_AND_MACHINE,
    *_FILES_BEHIND_LANDLOCK,
)

_ALL_BITS = 0xFFFFFFFF
_NEW_NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
_FCNTL_SIGNALS_OTHERS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
_IOCTL_SIGNALS_OTHERS = (0x5412, 0x541C, 0x8901, 0x8902)  # TIOCSTI TIOCLINUX FIOSETOWN SIOCSPGRP
_AF_NETLINK = 16
_NETLINK_ROUTE = 0
_SOCKET_TYPE = 0xF
_O_TRUNC_AND_MODE = 0o1003
_O_TRUNC = 0o1000
_X32_BIT = 0x40000000
_ARM_PRIVATE = (0xF0001, 0xF0006)  # breakpoint to get_tls: no kernel table, needed by every program

# Offsets in struct seccomp_data; arguments are 64-bit slots, all machines here are little-endian.
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST = 0x15, 0x25, 0x35

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k
Test = tuple[int, int, int]  # argument index, mask, value that argument & mask must have


class Rule(NamedTuple):
    """For one call: the verdict is `then` if every test of any clause holds, else `otherwise`."""

    call: str
    clauses: tuple[tuple[Test, ...], ...]
    then: int
    otherwise: int


def rules(own_pid: int, network: bool, landlock_version: int) -> Iterator[Rule]:
    """Yield a rule for every call that is not simply allowed.

    Args:
        own_pid: the one process that may be signalled.
        network: may it make internet sockets?
        landlock_version: before 3, opening with O_TRUNC must be refused here.
    """
    for call in REFUSED:
        yield Rule(call, (), REFUSE, REFUSE)
    # Its arguments are in memory, where no filter can look: the C library then uses clone.
    yield Rule("clone3", (), ABSENT, ABSENT)
    yield Rule("clone", tuple(((0, bit, bit),) for bit in _NEW_NAMESPACES), REFUSE, ALLOW)
    yield from _signal_rules(own_pid)
    yield from _socket_rules(network)
    for call in ("fcntl", "fcntl64"):
        yield _refuse_values(call, 1, _FCNTL_SIGNALS_OTHERS)
    yield _refuse_values("ioctl", 1, _IOCTL_SIGNALS_OTHERS)
    if landlock_version < 3:
        truncates = (_O_TRUNC_AND_MODE, _O_TRUNC)  # O_RDONLY | O_TRUNC: writing, undetected
        yield Rule("open", (((1, *truncates),),), REFUSE, ALLOW)
        yield Rule("openat", (((2, *truncates),),), REFUSE, ALLOW)
        yield Rule("openat2", (), ABSENT, ABSENT)


def _signal_rules(own_pid: int) -> Iterator[Rule]:
    for call in ("kill", "tkill"):
        yield Rule(call, (((0, _ALL_BITS, own_pid),), ((1, _ALL_BITS, 0),)), ALLOW, REFUSE)
    for call in ("tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        yield Rule(call, (((0, _ALL_BITS, own_pid),),), ALLOW, REFUSE)
    clauses = tuple(((0, _ALL_BITS, pid),) for pid in (0, own_pid))
    yield Rule("prlimit64", clauses, ALLOW, REFUSE)


def _socket_rules(network: bool) -> Iterator[Rule]:
    routes: tuple[Test, ...] = ((0, _ALL_BITS, _AF_NETLINK), (2, _ALL_BITS, _NETLINK_ROUTE))
    internet = tuple(
        ((0, _ALL_BITS, int(family)), (1, _SOCKET_TYPE, int(kind)))
        for family in (socket.AF_INET, socket.AF_INET6)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )
    yield Rule("socket", (routes, *(internet if network else ())), ALLOW, REFUSE)
    # A datagram pair can be connected anew, to any socket of the machine.
    streams = (((1, _SOCKET_TYPE, int(socket.SOCK_STREAM)),),)
    yield Rule("socketpair", streams, ALLOW, REFUSE)


def _refuse_values(call: str, argument: int, values: tuple[int, ...]) -> Rule:
    return Rule(call, tuple(((argument, _ALL_BITS, each),) for each in values), REFUSE, ALLOW)


def program(
    architecture: Architecture, own_pid: int, network: bool, landlock_version: int
) -> list[Instruction]:
    """Return the filter; see `rules` for the arguments."""
    code: list[Instruction] = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_IF_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, REFUSE),  # a call by another machine's numbers, as int 0x80 is
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    if architecture is X86_64:
        code += [(_IF_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, REFUSE)]
    if architecture is ARM:
        first, last = _ARM_PRIVATE
        code += [(_IF_AT_LEAST, 0, 2, first), (_IF_GREATER, 1, 0, last), (_RETURN, 0, 0, ALLOW)]
    code += [(_IF_GREATER, 0, 1, LAST_KNOWN), (_RETURN, 0, 0, ABSENT)]
    for rule in rules(own_pid, network, landlock_version):
        call = number(rule.call, architecture)
        if call is not None:
            body = _body(rule)
            code += [(_IF_EQUAL, 0, len(body), call), *body]
    code.append((_RETURN, 0, 0, ALLOW))
    return code


def _body(rule: Rule) -> list[Instruction]:
    """Code that decides about one call; it always returns, so the accumulator may be spoilt."""
    body: list[Instruction] = []
    for clause in rule.clauses:
        tests: list[list[Instruction]] = []
        for argument, mask, value in clause:
            load: Instruction = (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * argument)
            masked: list[Instruction] = [] if mask == _ALL_BITS else [(_AND, 0, 0, mask)]
            tests.append([load, *masked, (_IF_EQUAL, 0, 0, value)])
        left = sum(map(len, tests)) + 1
        for test in tests:
            left -= len(test)
            code, _, _, value = test[-1]
            body += [*test[:-1], (code, 0, left, value)]
        body.append((_RETURN, 0, 0, rule.then))
    body.append((_RETURN, 0, 0, rule.otherwise))
    return body


def install(code: list[Instruction]) -> None:
    """Put the filter on the calling thread and on whatever it starts.

    Raises:
        OSError: EINVAL: the kernel has no filters; EACCES: no_new_privs was not set first.
    """
    packed = b"".join(struct.pack("=HBBI", *each) for each in code)
    instructions = ctypes.create_string_buffer(packed, len(packed))
    # struct sock_fprog: a count, then a pointer at its natural alignment
    head = struct.pack("@HP", len(code), ctypes.addressof(instructions))
    descriptor = ctypes.create_string_buffer(head, len(head))
    set_seccomp, mode_filter = 22, 2
    prctl(set_seccomp, mode_filter, ctypes.addressof(descriptor))
