"""Read public keys from text that nobody vouches for, and write them anew.

Pure: bytes in, keys out. Rules: a line is `type base64 [comment]` and nothing else; a line with
options, a certificate, a marker or anything odd is dropped and counted; the type inside the blob
equals the one beside it; only type and base64 are ever written again, never a byte of the comment.

Source: sshd(8) "AUTHORIZED_KEYS FILE FORMAT"; RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4, and OpenSSH's
PROTOCOL.u2f for the layout of the blobs.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from workers.keys.errors import SyncError

MAX_KEYS = 100
MAX_BASE64_CHARS = 8192  # the longest key that sshd takes, RSA 16384, has about 2,800
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16_384

_LINE = re.compile(
    rb"([a-z0-9@.-]{1,64})[ \t]+([A-Za-z0-9+/]{1,8192}={0,2})(?:[ \t].*)?", re.DOTALL
)
_POINT_BYTES = {b"nistp256": 65, b"nistp384": 97, b"nistp521": 133}


class PublicKey(NamedTuple):
    """One key. `base64` is the canonical encoding of the blob."""

    algorithm: str
    base64: str


class Parsed(NamedTuple):
    """The keys in their order, each once, and how many lines were dropped."""

    keys: list[PublicKey]
    rejected: int


def parse_keys(text: bytes) -> Parsed:
    """Parse a list of public keys, one a line; blank lines and comments do not count.

    Raises:
        SyncError: `too_many`: more than MAX_KEYS lines; a part of them would be anybody's choice.
    """
    lines = [line.strip(b" \t\r") for line in text.split(b"\n")]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    if len(lines) > MAX_KEYS:
        raise SyncError("too_many", f"{len(lines)} keys, at most {MAX_KEYS} are taken")
    parsed = [parse_line(line) for line in lines]
    keys = dict.fromkeys(key for key in parsed if key is not None)
    return Parsed(list(keys), sum(key is None for key in parsed))


def parse_line(line: bytes) -> PublicKey | None:
    """Return the key of one line without options, or None if it is anything else."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    algorithm, encoded = match.groups()
    blob = _decode(encoded)
    if blob is None or not _is_key(algorithm, blob):
        return None
    return PublicKey(algorithm.decode("ascii"), base64.b64encode(blob).decode("ascii"))


def _decode(encoded: bytes) -> bytes | None:
    if len(encoded) > MAX_BASE64_CHARS:
        return None
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    # Two spellings of one blob (stray bits before the padding) would pass as two keys.
    return blob if base64.b64encode(blob) == encoded else None


def _is_key(algorithm: bytes, blob: bytes) -> bool:
    check = _CHECKS.get(algorithm)
    fields = _fields(blob)
    return check is not None and fields[:1] == [algorithm] and check(fields[1:])


def _fields(blob: bytes) -> list[bytes]:
    """Split a blob into its length-prefixed fields; empty if it is cut short or has a rest."""
    fields = []
    at = 0
    while at < len(blob):
        if at + 4 > len(blob):
            return []
        (length,) = struct.unpack_from(">I", blob, at)
        at += 4 + length
        if at > len(blob):
            return []
        fields.append(blob[at - length : at])
    return fields


def _is_ed25519(fields: list[bytes]) -> bool:
    return len(fields) == 1 and len(fields[0]) == 32


def _is_rsa(fields: list[bytes]) -> bool:
    if len(fields) != 2 or not all(_is_positive(field) for field in fields):
        return False
    exponent, modulus = (int.from_bytes(field, "big") for field in fields)
    odd = exponent % 2 == 1 and modulus % 2 == 1
    return odd and exponent >= 3 and MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS


def _is_positive(number: bytes) -> bool:
    """Is this an mpint above zero, without a byte too many (RFC 4251, 5)?"""
    if not number or number[0] >= 0x80:
        return False
    return number[0] != 0 or (len(number) > 1 and number[1] >= 0x80)


def _is_ecdsa(curve: bytes) -> Callable[[list[bytes]], bool]:
    def check(fields: list[bytes]) -> bool:
        return len(fields) == 2 and fields[0] == curve and _is_point(curve, fields[1])

    return check


def _is_point(curve: bytes, point: bytes) -> bool:
    return len(point) == _POINT_BYTES[curve] and point[0] == 4


def _is_token_ed25519(fields: list[bytes]) -> bool:
    return len(fields) == 2 and len(fields[0]) == 32 and bool(fields[1])


def _is_token_ecdsa(fields: list[bytes]) -> bool:
    return (
        len(fields) == 3
        and fields[0] == b"nistp256"
        and _is_point(b"nistp256", fields[1])
        and bool(fields[2])
    )


# DSA is too weak and certificates grant more than a key: both are missing on purpose.
_CHECKS: dict[bytes, Callable[[list[bytes]], bool]] = {
    b"ssh-ed25519": _is_ed25519,
    b"ssh-rsa": _is_rsa,
    b"ecdsa-sha2-nistp256": _is_ecdsa(b"nistp256"),
    b"ecdsa-sha2-nistp384": _is_ecdsa(b"nistp384"),
    b"ecdsa-sha2-nistp521": _is_ecdsa(b"nistp521"),
    b"sk-ssh-ed25519@openssh.com": _is_token_ed25519,
    b"sk-ecdsa-sha2-nistp256@openssh.com": _is_token_ecdsa,
}
