"""Go to a command's working directory, and see where it really is.

The directory is opened once, and what was opened is judged and entered: a link that is swapped in
between leads nowhere else. On a dead mount this blocks: then only this worker is killed for it.
Source: contract 1.4 `cwd` ("inside `admin.allowedCwds` after resolving symlinks").
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from workers import policy_roots
from workers.errors import DirectoryRefusedError

assert sys.platform != "win32"

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
if sys.platform == "linux":
    _FLAGS |= os.O_PATH  # may be entered without being readable


def enter(cwd: str, roots: Sequence[Sequence[str]]) -> None:
    """Make `cwd` this process's working directory; `roots` hold it (none do where there are none).

    Raises:
        DirectoryRefusedError: it does not, or cannot be entered: refuse the command (126).
    """
    try:
        fd = os.open(cwd, _FLAGS)
    except OSError as e:
        raise DirectoryRefusedError(f"cwd cannot be entered: {e.strerror}") from e
    try:
        place = _real(fd, cwd)
        if not roots or not policy_roots.holds(roots, place):
            raise DirectoryRefusedError("cwd lies in none of admin.allowedCwds, links resolved")
        os.fchdir(fd)
    except OSError as e:
        raise DirectoryRefusedError(f"cwd cannot be entered: {e.strerror}") from e
    finally:
        os.close(fd)


def enter_home(home: str) -> None:
    """Make the account's home the working directory; `/` where it cannot be entered."""
    try:
        os.chdir(home)
    except OSError:
        os.chdir("/")


def _real(fd: int, cwd: str) -> str:
    """Where an open directory is; elsewhere than on Linux its name is resolved a second time."""
    if sys.platform == "linux":
        return os.readlink(f"/proc/self/fd/{fd}")
    return os.path.realpath(cwd)
