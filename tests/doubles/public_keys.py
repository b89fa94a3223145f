"""Public keys in OpenSSH's format, well formed but nobody's: any number of them, at once."""

from __future__ import annotations

import base64
import hashlib
import struct


def blob(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def encode(*fields: bytes) -> str:
    return base64.b64encode(blob(*fields)).decode()


def ed25519(seed: object) -> str:
    """Return `ssh-ed25519 <base64>`; another seed is another key."""
    point = hashlib.sha256(str(seed).encode()).digest()
    return f"ssh-ed25519 {encode(b'ssh-ed25519', point)}"


def rsa(bits: int, exponent: bytes = b"\x01\x00\x01") -> str:
    modulus = ((1 << (bits - 1)) | 1).to_bytes(bits // 8 + 1, "big").removeprefix(b"\0")
    if modulus[0] >= 0x80:
        modulus = b"\0" + modulus
    return f"ssh-rsa {encode(b'ssh-rsa', exponent, modulus)}"


def ecdsa(curve: str, size: int) -> str:
    name = f"ecdsa-sha2-{curve}"
    return f"{name} {encode(name.encode(), curve.encode(), bytes([4]) + bytes(size - 1))}"
