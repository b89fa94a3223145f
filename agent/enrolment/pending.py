"""The key of an enrolment whose answer has not come yet.

Rules: written before the token is sent, so that whoever is interrupted in between, by a lost reply
or by a power cut, comes back with the key that burnt it; removed once the identity is written.

Source: contract part 2 (retry); fault cases A "Enrolment reply lost".
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent import dirs, identity
from agent.errors import DirectoryError, IdentityError

_FILE = "pending.json"


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """`digest`: the SHA-256 of the token or of the device code that the key goes with."""

    key: str
    digest: str


def key_for(state_dir: Path, digest: str, fresh: str) -> str:
    """Return the key that was shown with this token before, or a new one that is kept for it.

    Args:
        fresh: the new one.

    Raises:
        IdentityError: it cannot be kept.
    """
    path = identity.folder(state_dir) / _FILE
    known = _read(path)
    if known is not None and known.digest == digest:
        return known.key
    made = Pending(key=fresh, digest=digest)
    try:
        dirs.prepare(path.parent)
        identity.replace_file(path, msgspec.json.encode(made))
    except (OSError, DirectoryError) as e:
        raise IdentityError(f"the enrolment's key cannot be kept: {e}") from e
    return made.key


def forget(state_dir: Path) -> None:
    """The identity is written, or the token is worth nothing: the key is not needed here."""
    (identity.folder(state_dir) / _FILE).unlink(missing_ok=True)


def _read(path: Path) -> Pending | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pending)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
