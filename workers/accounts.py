"""Look up accounts of this machine, and become one for good.

Rules: lookups go through the system's name service, which may hang (LDAP): only a worker calls
them, whose watchdog ends it. `drop_to` is for a process with one thread. Nothing is left of the old
account: groups, group, user, saved ids. Windows has none of this yet: there everybody is who they
are, and becoming another is refused.
Source: getpwnam(3), initgroups(3), setresuid(2); contract part 3 `runAs`, `keys.targetUser`.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from workers.errors import AccountError

if sys.platform != "win32":
    import pwd


class Account(NamedTuple):
    """What the system knows of an account."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


if sys.platform == "win32":

    def lookup(name: str) -> Account:
        """Refuse: see the module's rules.

        Raises:
            AccountError: always.
        """
        raise AccountError(f"cannot look up {name!r} on Windows")

    def own() -> Account:
        """Return the account of this process, as far as the environment tells."""
        name = os.environ.get("USERNAME", "")
        return Account(name, 0, 0, os.path.expanduser("~"), os.environ.get("COMSPEC", "cmd.exe"))

    def may_become(account: Account) -> bool:
        """Nobody becomes another."""
        return account == own()

    def drop_to(name: str) -> Account:
        """Stay who we are.

        Raises:
            AccountError: `name` is another.
        """
        if name.casefold() != own().name.casefold():
            raise AccountError(f"cannot become {name!r} on Windows")
        return own()

else:

    def lookup(name: str) -> Account:
        """Return the account called `name`, or the one with that uid if there is none of that name.

        Raises:
            AccountError: there is none.
        """
        try:
            return _account(pwd.getpwnam(name))
        except (KeyError, ValueError, UnicodeEncodeError):
            pass  # unknown, or a name with NUL or lone surrogates
        try:
            # isdecimal alone would let other scripts' digits through.
            return _account(pwd.getpwuid(int(name) if name.isascii() and name.isdecimal() else -1))
        except (KeyError, OverflowError) as e:
            raise AccountError(f"there is no account {name!r}") from e

    def own() -> Account:
        """Return the account of this process; made up where the system has no entry for its uid."""
        uid = os.geteuid()
        try:
            return _account(pwd.getpwuid(uid))
        except KeyError:
            home = os.environ.get("HOME", "/")
            return Account(str(uid), uid, os.getegid(), home, "/bin/sh")

    def may_become(account: Account) -> bool:
        """Only root becomes another; everyone may stay who they are."""
        return os.geteuid() in (0, account.uid)

    def drop_to(name: str) -> Account:
        """Become `name` with its groups, for good; nothing happens when we are it already.

        Raises:
            AccountError: there is no such account, or we may not become it; the process is
                unchanged or must end.
        """
        account = lookup(name)
        if os.getresuid() == (account.uid,) * 3:
            return account
        if not may_become(account):
            raise AccountError(f"only root can become {account.name!r}")
        try:
            os.initgroups(account.name, account.gid)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
        except OSError as e:
            raise AccountError(f"cannot become {account.name!r}: {e.strerror}") from e
        if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
            raise AccountError(f"did not become {account.name!r}")
        return account

    def _account(entry: pwd.struct_passwd) -> Account:
        return Account(
            name=entry.pw_name,
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            home=entry.pw_dir or "/",
            shell=entry.pw_shell or "/bin/sh",
        )
