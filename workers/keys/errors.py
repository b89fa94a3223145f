"""Why a key sync changed nothing.

Rule: `reason` is one of the words in docs/reference/errors.rst, or the name of an errno.
"""

from __future__ import annotations

import errno

from workers.errors import WorkersError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_PLAIN_FILE = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMLINK)


class SyncError(WorkersError):
    """Key sync refused or failed: nothing was changed; `reason` is the answer's `error`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def from_os_error(error: OSError, doing: str) -> SyncError:
    """Name what the system refused while `doing` something.

    Returns:
        `no_space` for a full disk or quota, `unsafe_path` where a link or a special file stands
        in the way, else the errno's own name.
    """
    name = errno.errorcode.get(error.errno or 0, "EIO")
    detail = f"{doing}: {name}"
    if error.errno in _NO_SPACE:
        return SyncError("no_space", detail)
    if error.errno in _NO_PLAIN_FILE:
        return SyncError("unsafe_path", detail)
    return SyncError(name, detail)
