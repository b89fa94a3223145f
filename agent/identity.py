"""Who this machine is to its hub: one file, written whole, believed only as we left it.

`identity/identity.json` in the state directory, 0600 in 0700. Rules: a broken one is told in one
sentence and stops the start (exit 78); it is never repaired, never deleted and never replaced by a
new enrolment but on a person's word. Every check is of what was opened, not of a name. Nothing here
needs `cryptography`: how long the certificate is good is written beside it.

Source: contract part 2; fault cases A (identity file).
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent import dirs
from agent.errors import DirectoryError, IdentityError
from wire.signature import is_client_id

FOLDER = "identity"
FILE = "identity.json"
MAX_BYTES = 256 * 1024


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """See wire.enrolment.EnrollResponse for what the hub gave.

    `server_ca`: the only certificates that this hub is believed by, where the enrolment was pinned.
    `mtls`: the hub has retired the bearer token: the certificate is shown instead, at `agents_url`
    where there is one. `policy` is the tenant's, which can only narrow.
    """

    agent_id: str
    asset_id: str
    hub_url: str
    server_url: str
    service_account_token: str
    auth_token: str
    certificate: str
    key: str
    ca_chain: str
    not_before: str
    not_after: str
    agents_url: str | None = None
    server_ca: str | None = None
    mtls: bool = False
    policy: dict[str, Any] | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.service_account_token, self.auth_token)

    @property
    def own_ca(self) -> str | None:
        """The hub's own authority, to be believed where the certificate is shown: it made both."""
        return self.ca_chain if self.mtls else None

    @property
    def http_url(self) -> str:
        """Where beats go now."""
        return (self.agents_url or self.hub_url) if self.mtls else self.hub_url

    @property
    def link_url(self) -> str:
        """Where the live link goes now."""
        return (self.agents_url or self.server_url) if self.mtls else self.server_url

    def __repr__(self) -> str:
        return f"<Identity {self.agent_id}>"


def folder(state_dir: Path) -> Path:
    """Return the directory of the identity below the state directory."""
    return state_dir / FOLDER


def exists(state_dir: Path) -> bool:
    """Is there an identity, sound or not?"""
    return os.path.lexists(folder(state_dir) / FILE)


def read(state_dir: Path) -> Identity | None:
    """Return the identity; None where this machine was never enrolled.

    Raises:
        IdentityError: it is there and not as we left it; exit 78 and change nothing.
    """
    path = folder(state_dir) / FILE
    owner = dirs.owner_of(state_dir)
    try:
        if not os.path.lexists(folder(state_dir)) or not os.path.lexists(path):
            return None
        dirs.check(folder(state_dir), owner=owner)
    except DirectoryError as e:
        raise IdentityError(f"the identity cannot be trusted: {e}") from e
    return _parsed(path, _read(path, owner))


def write(state_dir: Path, identity: Identity) -> None:
    """Put an identity in place of what is there, whole or not at all.

    Raises:
        IdentityError: it could not be written; what was there is there still.
    """
    place = folder(state_dir)
    try:
        dirs.prepare(place)
        replace_file(place / FILE, msgspec.json.format(msgspec.json.encode(identity), indent=1))
    except (OSError, DirectoryError) as e:
        raise IdentityError(f"the identity cannot be written: {e}") from e


def remove(state_dir: Path) -> None:
    """Forget who we are; only `unenroll` and a replacing enrolment do."""
    try:
        (folder(state_dir) / FILE).unlink(missing_ok=True)
        sync_directory(folder(state_dir))
    except OSError as e:
        raise IdentityError(f"the identity cannot be removed: {e.strerror}") from e


def replace_file(
    path: Path, text: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Write a file beside, sync it, and rename it into place; may raise OSError.

    Args:
        owner: ids of account and group; None: ours.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    beside.unlink(missing_ok=True)
    fd = os.open(beside, flags | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(fd, "wb") as file:
            if sys.platform != "win32":
                if owner is not None:
                    os.fchown(fd, *owner)
                os.fchmod(fd, mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Let a rename survive a power cut, where the system can."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path, owner: int) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as e:
        what = "is a link" if path.is_symlink() else f"cannot be read: {e.strerror}"
        raise IdentityError(f"{path}: {what}") from e
    try:
        _check(path, os.fstat(fd), owner)
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as e:
        raise IdentityError(f"{path}: cannot be read: {e.strerror}") from e
    finally:
        os.close(fd)


def _check(path: Path, found: os.stat_result, owner: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IdentityError(f"{path}: is not a regular file")
    if found.st_size == 0:
        raise IdentityError(f"{path}: is empty; put it back from a copy, or enrol again")
    if found.st_size > MAX_BYTES:
        raise IdentityError(f"{path}: is larger than {MAX_BYTES // 1024} KiB")
    if sys.platform == "win32":
        return
    if found.st_uid != owner:
        raise IdentityError(
            f"{path}: is owned by uid {found.st_uid}, not by uid {owner}: who else has it?"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise IdentityError(f"{path}: mode {mode:04o}: others may have read the keys in it")


def _parsed(path: Path, text: bytes) -> Identity:
    try:
        identity = msgspec.json.decode(text, type=Identity)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise IdentityError(
            f"{path}: is truncated or damaged; put it back from a copy, or enrol again"
        ) from e
    if not is_client_id(identity.agent_id):
        raise IdentityError(f"{path}: holds no usable agent_id")
    return identity
