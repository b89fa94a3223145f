"""Give up Linux capabilities and the ways to get them back, for good.

Rules: one thread (all of this is per thread); irreversible. A process without capabilities that
still has uid 0 owns root's files: that is why `confine` adds Landlock and seccomp.
Source: capabilities(7), capset(2), prctl(2) (PR_CAPBSET_DROP, PR_CAP_AMBIENT,
PR_SET_NO_NEW_PRIVS).
"""

from __future__ import annotations

import contextlib
import errno
import struct

from workers.libc import capset, prctl

CAP_DAC_READ_SEARCH = 2

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522


def forbid_new_privileges() -> None:
    """Make exec unable to give anything: no setuid, no setgid, no file capabilities.

    Raises:
        OSError: EINVAL before Linux 3.5.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_only(kept: frozenset[int]) -> None:
    """Reduce the bounding, ambient, inheritable, permitted and effective sets to `kept`.

    Args:
        kept: numbers of capabilities; those that the process does not have stay absent.

    Raises:
        OSError: the kernel refused; the process has more than it should.
    """
    with contextlib.suppress(OSError):  # EINVAL before Linux 4.3: there are none
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    permitted = _permitted()
    _shrink_bounding_set(kept)
    mask = sum(1 << number for number in kept) & permitted
    low, high = mask & 0xFFFFFFFF, mask >> 32
    # effective, permitted, inheritable: of capabilities 0-31, then of 32-63
    capset(struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", low, low, 0, high, high, 0))


def _permitted() -> int:
    """Return the permitted set as a mask."""
    with open("/proc/self/status", "rb") as file:  # bytes: no codec has to be found any more
        for line in file:
            if line.startswith(b"CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def _shrink_bounding_set(kept: frozenset[int]) -> None:
    """Needs CAP_SETPCAP, which only root has; without it exec is held by no_new_privs alone."""
    for number in range(64):
        try:
            if prctl(_PR_CAPBSET_READ, number) == 1 and number not in kept:
                prctl(_PR_CAPBSET_DROP, number)
        except OSError as e:
            if e.errno in (errno.EINVAL, errno.EPERM):
                return  # past the last one, or not ours to shrink
            raise
