"""System call numbers of the architectures that `workers.seccomp` can filter.

Data alone. From 424 on the numbers are the same everywhere (`_SHARED`); below, each architecture
has its own. None: the call does not exist there.
Source: the kernel's arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
(aarch64) and arch/arm/tools/syscall.tbl (EABI), up to Linux 6.18.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple


class Architecture(NamedTuple):
    """What a filter must know of the machine. `audit` is AUDIT_ARCH_* of linux/audit.h."""

    name: str
    audit: int
    column: int


X86_64 = Architecture("x86_64", 0xC000003E, 0)
AARCH64 = Architecture("aarch64", 0xC00000B7, 1)
ARM = Architecture("arm", 0x40000028, 2)

# file_setattr, 6.17. What comes later is unknown to us and answered ENOSYS.
LAST_KNOWN = 469

_SHARED: dict[str, int] = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "openat2": 437,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "process_mrelease": 448,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_setattr": 469,
}

# Each name's number on x86_64, aarch64 and ARM, in this order.
_OWN: dict[str, tuple[int | None, int | None, int | None]] = {
    "kill": (62, 129, 37),
    "tkill": (200, 130, 238),
    "tgkill": (234, 131, 268),
    "rt_sigqueueinfo": (129, 138, 178),
    "rt_tgsigqueueinfo": (297, 240, 363),
    "ptrace": (101, 117, 26),
    "process_vm_readv": (310, 270, 376),
    "process_vm_writev": (311, 271, 377),
    "kcmp": (312, 272, 378),
    "perf_event_open": (298, 241, 364),
    "mount": (165, 40, 21),
    "umount2": (166, 39, 52),
    "pivot_root": (155, 41, 218),
    "chroot": (161, 51, 61),
    "swapon": (167, 224, 87),
    "swapoff": (168, 225, 115),
    "quotactl": (179, 60, 131),
    "unshare": (272, 97, 337),
    "setns": (308, 268, 375),
    "clone": (56, 220, 120),
    "bpf": (321, 280, 386),
    "userfaultfd": (323, 282, 388),
    "keyctl": (250, 219, 311),
    "add_key": (248, 217, 309),
    "request_key": (249, 218, 310),
    "kexec_load": (246, 104, 347),
    "kexec_file_load": (320, 294, 401),
    "init_module": (175, 105, 128),
    "finit_module": (313, 273, 379),
    "delete_module": (176, 106, 129),
    "create_module": (174, None, None),
    "reboot": (169, 142, 88),
    "sethostname": (170, 161, 74),
    "setdomainname": (171, 162, 121),
    "acct": (163, 89, 51),
    "syslog": (103, 116, 103),
    "vhangup": (153, 58, 111),
    "lookup_dcookie": (212, 18, 249),
    "_sysctl": (156, None, 149),
    "iopl": (172, None, None),
    "ioperm": (173, None, None),
    "modify_ldt": (154, None, None),
    "uselib": (134, None, 86),
    "nfsservctl": (180, 42, 169),
    "settimeofday": (164, 170, 79),
    "clock_settime": (227, 112, 262),
    "clock_adjtime": (305, 266, 372),
    "adjtimex": (159, 171, 124),
    "clock_settime64": (None, None, 404),
    "clock_adjtime64": (None, None, 405),
    "open_by_handle_at": (304, 265, 371),
    "fanotify_init": (300, 262, 367),
    "fanotify_mark": (301, 263, 368),
    "mknod": (133, None, 14),
    "mknodat": (259, 33, 324),
    "chmod": (90, None, 15),
    "fchmod": (91, 52, 94),
    "fchmodat": (268, 53, 333),
    "chown": (92, None, 182),
    "fchown": (93, 55, 95),
    "lchown": (94, None, 16),
    "fchownat": (260, 54, 325),
    "chown32": (None, None, 212),
    "fchown32": (None, None, 207),
    "lchown32": (None, None, 198),
    "setxattr": (188, 5, 226),
    "lsetxattr": (189, 6, 227),
    "fsetxattr": (190, 7, 228),
    "removexattr": (197, 14, 235),
    "lremovexattr": (198, 15, 236),
    "fremovexattr": (199, 16, 237),
    "utime": (132, None, None),
    "utimes": (235, None, 269),
    "futimesat": (261, None, 326),
    "utimensat": (280, 88, 348),
    "utimensat_time64": (None, None, 412),
    "truncate": (76, 45, 92),
    "truncate64": (None, None, 193),
    "shmget": (29, 194, 307),
    "shmat": (30, 196, 305),
    "shmctl": (31, 195, 308),
    "msgget": (68, 186, 303),
    "msgsnd": (69, 189, 301),
    "msgrcv": (70, 188, 302),
    "msgctl": (71, 187, 304),
    "semget": (64, 190, 299),
    "semop": (65, 193, 298),
    "semctl": (66, 191, 300),
    "semtimedop": (220, 192, 312),
    "semtimedop_time64": (None, None, 420),
    "mq_open": (240, 180, 274),
    "mq_unlink": (241, 181, 275),
    "setpriority": (141, 140, 97),
    "sched_setparam": (142, 118, 154),
    "sched_setscheduler": (144, 119, 156),
    "sched_setattr": (314, 274, 380),
    "sched_setaffinity": (203, 122, 241),
    "ioprio_set": (251, 30, 314),
    "move_pages": (279, 239, 344),
    "migrate_pages": (256, 238, 400),
    "execve": (59, 221, 11),
    "execveat": (322, 281, 387),
    "socket": (41, 198, 281),
    "socketpair": (53, 199, 288),
    "fcntl": (72, 25, 55),
    "fcntl64": (None, None, 221),
    "ioctl": (16, 29, 54),
    "prlimit64": (302, 261, 369),
    "open": (2, None, 5),
    "openat": (257, 56, 322),
    "creat": (85, None, 8),
}


def current() -> Architecture | None:
    """Return what this process runs as, or None when the table does not know it.

    A 32-bit program on a 64-bit kernel makes 32-bit calls: only ARM's are known here.
    """
    if sys.platform == "win32":
        return None
    machine = os.uname().machine
    is_64_bit = sys.maxsize > 2**32
    if machine in ("x86_64", "aarch64") and is_64_bit:
        return X86_64 if machine == "x86_64" else AARCH64
    if machine.startswith("armv") or (machine == "aarch64" and not is_64_bit):
        return ARM
    return None


def number(name: str, architecture: Architecture) -> int | None:
    """Return the number of the call `name`, or None where the architecture has none.

    Raises:
        KeyError: the table does not know the name: a typing error of ours.
    """
    shared = _SHARED.get(name)
    return _OWN[name][architecture.column] if shared is None else shared
