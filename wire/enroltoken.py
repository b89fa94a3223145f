"""An enrolment token as text: prefix, random, checksum. Pure.

Two forms. `jle_<random>_<checksum>` is the token itself; its SHA-256 is all that a hub keeps.
`jlc_<all>_<checksum>` carries the same random beside the hub's URL and the fingerprint of its CA,
so that one paste is enough and the first contact is pinned. Letters and digits of RFC 4648 base 32
in lower case only, so that a double click takes the whole; the checksum tells a token that was cut
or mistyped before anybody is asked.

Source: contract part 2; fault cases A (tokens).
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import NamedTuple

from wire.errors import WireError

RANDOM_BYTES = 16
_PLAIN, _CARRYING = "jle", "jlc"
_TEXT = re.compile(r"(jle|jlc)_([a-z2-7]{1,1024})_([a-z2-7]{7})", re.ASCII)
_FINGERPRINT_BYTES = 32
_MAX_URL_BYTES = 400


class Carried(NamedTuple):
    """What a pasted token holds. `token` is the plain form, the one that goes to the hub."""

    token: str
    hub_url: str | None = None
    ca_sha256: str | None = None


def make(random: bytes) -> str:
    """Spell a token.

    Args:
        random: `RANDOM_BYTES` from a source fit for secrets.
    """
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a token is made of {RANDOM_BYTES} bytes")
    return _spell(_PLAIN, random)


def carrying(token: str, hub_url: str, ca_sha256: str | None = None) -> str:
    """Spell a token together with where it is good.

    Args:
        token: the plain form.
        hub_url: the hub's base URL.
        ca_sha256: lower-case SHA-256 of the DER form of the hub's CA certificate; None where the
            hub's certificate is one that every machine trusts.

    Raises:
        WireError: the token is none.
        ValueError: URL or fingerprint cannot be carried.
    """
    random = _random_of(read(token).token)
    url = hub_url.encode()
    fingerprint = bytes.fromhex(ca_sha256) if ca_sha256 else b""
    if len(fingerprint) not in (0, _FINGERPRINT_BYTES) or not 0 < len(url) <= _MAX_URL_BYTES:
        raise ValueError("no such URL or fingerprint can be carried")
    return _spell(_CARRYING, random + bytes([len(fingerprint)]) + fingerprint + url)


def read(text: str) -> Carried:
    """Read what was pasted; white space around it is ignored.

    Raises:
        WireError: it is no token, or was cut or mistyped. Nothing of it is in the error.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise _error("not an enrolment token: it looks like jle_…_… or jlc_…_…")
    prefix, packed, checksum = found.groups()
    raw = _unpack(packed)
    if _checksum(prefix, raw) != checksum or _pack(raw) != packed:
        raise _error("the enrolment token is incomplete or mistyped: its checksum is wrong")
    return _plain(raw) if prefix == _PLAIN else _carried(raw)


def digest(token: str) -> str:
    """Give what a hub keeps of a token: the SHA-256 of its plain form, white space aside."""
    return hashlib.sha256(token.strip().encode()).hexdigest()


def _plain(raw: bytes) -> Carried:
    if len(raw) != RANDOM_BYTES:
        raise _error("the enrolment token has the wrong length")
    return Carried(_spell(_PLAIN, raw))


def _carried(raw: bytes) -> Carried:
    random, length, rest = raw[:RANDOM_BYTES], raw[RANDOM_BYTES : RANDOM_BYTES + 1], raw[17:]
    if length not in (b"\x00", bytes([_FINGERPRINT_BYTES])):
        raise _error("the enrolment token is of a newer form")
    fingerprint, url = rest[: length[0]], rest[length[0] :]
    try:
        hub_url = url.decode("ascii")
    except UnicodeDecodeError as error:
        raise _error("the enrolment token carries no URL") from error
    if not hub_url.startswith(("https://", "http://")):
        raise _error("the enrolment token carries no URL")
    return Carried(_spell(_PLAIN, random), hub_url, fingerprint.hex() or None)


def _random_of(token: str) -> bytes:
    return _unpack(token.split("_")[1])


def _spell(prefix: str, raw: bytes) -> str:
    return f"{prefix}_{_pack(raw)}_{_checksum(prefix, raw)}"


def _checksum(prefix: str, raw: bytes) -> str:
    return _pack(zlib.crc32(prefix.encode() + raw).to_bytes(4, "big"))


def _pack(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _unpack(packed: str) -> bytes:
    try:
        return base64.b32decode(packed.upper() + "=" * (-len(packed) % 8))
    except ValueError as error:
        raise _error("the enrolment token is incomplete or mistyped") from error


def _error(detail: str) -> WireError:
    return WireError("enrolment token", "bad_request", detail)
