"""Where the bytes of large results are: a directory, behind three calls.

Rules: an upload is written beside and takes its place when it is complete and on the disk; what was
left half-written by a killed hub is removed at the next start. Names are ids of ours alone.
Source: issue 5 "Commands" (artifacts).
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Protocol

from hub.clock import now_ms
from hub.errors import StorageFullError

_PART = ".part"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Upload(Protocol):
    """Bytes on their way in."""

    size_bytes: int

    def write(self, chunk: bytes) -> None: ...

    def sha256(self) -> bytes: ...

    def commit(self) -> None: ...

    def abort(self) -> None: ...


class ArtifactStore(Protocol):
    """Keeps bytes under ids; a bucket of an object store could stand here."""

    def begin(self, artifact_id: str) -> Upload: ...

    def path(self, artifact_id: str) -> Path | None: ...

    def delete(self, artifact_id: str) -> None: ...

    def older_than(self, age_s: float) -> list[str]: ...


class DirectoryStore:
    """The store of a hub alone on its machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def prepare(self) -> None:
        """Make the directory, and remove what a killed hub left half-written."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for path in self._directory.glob(f"*{_PART}"):
            path.unlink(missing_ok=True)

    def begin(self, artifact_id: str) -> Upload:
        """Begin an upload.

        Raises:
            StorageFullError: the disk is full.
        """
        return _FileUpload(self._directory / artifact_id)

    def path(self, artifact_id: str) -> Path | None:
        """Return where the bytes are; None when they are gone."""
        path = self._directory / artifact_id
        return path if path.is_file() else None

    def delete(self, artifact_id: str) -> None:
        """Remove the bytes, if they are there."""
        (self._directory / artifact_id).unlink(missing_ok=True)

    def older_than(self, age_s: float) -> list[str]:
        """Return the ids whose bytes have been here for so long."""
        before_s = now_ms() / 1000 - age_s
        with os.scandir(self._directory) as found:
            return [
                one.name
                for one in found
                if not one.name.endswith(_PART) and one.stat().st_mtime < before_s
            ]


class _FileUpload:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + _PART)
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        try:
            fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _foreign(error) from error
        self._file = os.fdopen(fd, "wb")

    def write(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _foreign(error) from error
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    def sha256(self) -> bytes:
        return self._hash.digest()

    def commit(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._part, self._path)
        except OSError as error:
            raise _foreign(error) from error

    def abort(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # what could not be written is thrown away anyway
        self._part.unlink(missing_ok=True)


def _foreign(error: OSError) -> Exception:
    if error.errno in _FULL:
        return StorageFullError("the hub's disk is full: free space in its state directory")
    return error
