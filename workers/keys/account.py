"""Whose authorized_keys it is: the account's home, and whether it may have keys at all.

Rule: the name service may hang, so this is never called on the loop's thread.

Source: fault cases K (`no_user`).
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from workers.keys.errors import SyncError

assert sys.platform != "win32"

NO_LOGIN = ("nologin", "false")


class Account(NamedTuple):
    """An account that may log in. `home` is absolute and exists, links and all."""

    name: str
    uid: int
    home: str


def find_account(name: str) -> Account:
    """Look up an account that this process already runs as.

    Args:
        name: empty: whatever account this process is, as without `keys.targetUser`.

    Raises:
        SyncError: `no_user`: there is no such account, it is not ours, or it cannot log in.
    """
    import pwd

    try:
        entry = pwd.getpwnam(name) if name else pwd.getpwuid(os.geteuid())
    except (KeyError, ValueError) as e:
        raise SyncError("no_user", "there is no such account") from e
    if entry.pw_uid != os.geteuid():
        raise SyncError("no_user", f"this worker runs as uid {os.geteuid()}, not as this account")
    if os.path.basename(entry.pw_shell) in NO_LOGIN:
        raise SyncError("no_user", f"the account cannot log in: its shell is {entry.pw_shell}")
    if not os.path.isabs(entry.pw_dir) or not os.path.lexists(entry.pw_dir):
        raise SyncError("no_user", f"the account has no home: {entry.pw_dir or '(none)'}")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_dir)
