"""Why the files family could not do what it was asked.

Rule: `reason` is one of the words in docs/reference/errors.rst, or the name of an errno.
"""

from __future__ import annotations

import errno

from workers.errors import WorkersError

_REASONS = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_a_directory",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
}


class FilesError(WorkersError):
    """A log cannot be followed, or a directory not be listed; `reason` is what the peer is told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def from_os_error(error: OSError) -> FilesError:
    """Put what the system said into the family's words."""
    code = error.errno or 0
    return FilesError(_REASONS.get(code) or errno.errorcode.get(code, "EIO"))
