"""Keys that never stand in the database: one file, `keyring`, in the state directory.

Rules: 0600 and ours, or the hub does not start; made once by `hub init`; whoever has the database
without it has no HMAC secret of any agent. One key seals secrets (AES-GCM, the row's owner bound
in as associated data), one signs the audit chain's heads (Ed25519).
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub import private_files
from hub.errors import SettingsError

FILE_NAME = "keyring"
_NONCE_BYTES = 12


class Keyring:
    """The two keys of a hub."""

    def __init__(self, sealing_key: bytes, signing_key: bytes) -> None:
        self._aead = AESGCM(sealing_key)
        self.signer = Ed25519PrivateKey.from_private_bytes(signing_key)

    @property
    def public_key_hex(self) -> str:
        """Return what seals and exports of the audit log are checked with."""
        return self.signer.public_key().public_bytes_raw().hex()

    def seal(self, secret: str, owner: str) -> str:
        """Encrypt a secret for a row; `owner` must be told again to `unseal`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, secret.encode(), owner.encode())
        return base64.b64encode(nonce + sealed).decode()

    def unseal(self, sealed: str, owner: str) -> str:
        """Decrypt a secret.

        Raises:
            SettingsError: it was sealed with another keyring, or for another row.
        """
        raw = base64.b64decode(sealed)
        try:
            plain = self._aead.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode())
        except InvalidTag as error:
            raise SettingsError("the keyring is not the one that sealed this database") from error
        return plain.decode()


def create(state_dir: Path) -> Keyring:
    """Make the keyring of a new hub.

    Raises:
        SettingsError: there is one already.
    """
    keys = {name: base64.b64encode(secrets.token_bytes(32)).decode() for name in ("seal", "sign")}
    private_files.create(state_dir / FILE_NAME, json.dumps(keys))
    return load(state_dir)


def load(state_dir: Path) -> Keyring:
    """Read the keyring.

    Raises:
        SettingsError: it is missing, damaged, somebody else's, or readable by others.
    """
    path = state_dir / FILE_NAME
    text = private_files.read(path)
    try:
        keys = json.loads(text)
        return Keyring(base64.b64decode(keys["seal"]), base64.b64decode(keys["sign"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is damaged: restore it from a backup") from error
