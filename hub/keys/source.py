"""A GitHub user's public keys, as the hub gets them for a preview.

Rules: blocks, so never on the loop; the same bounds as on a machine: a login and nothing else,
https (or http to loopback), no redirect, no environment, 10 s, 1 MiB, 100 keys; a line that is not
`type base64 [comment]`, or that holds a weak or unknown key, is counted and left out. What a
machine does is its own agent's decision, from its own source.
Source: contract 1.6; fault cases K.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from hub.errors import BadRequestError, ConflictError

DEADLINE_S = 10.0
MAX_BYTES = 1024 * 1024
MAX_KEYS = 100
MIN_RSA_BITS = 2048
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}", re.ASCII)
_LINE = re.compile(r"([a-z0-9@.-]{1,64})[ \t]+([A-Za-z0-9+/]{1,8192}={0,2})(?:[ \t].*)?")


@dataclass(frozen=True)
class Key:
    """One public key."""

    algorithm: str
    base64: str

    @property
    def fingerprint(self) -> str:
        """Return it as `ssh-keygen -l` shows it."""
        digest = hashlib.sha256(base64.b64decode(self.base64)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class Found:
    """A user's keys, and how many lines were none."""

    url: str
    keys: list[Key]
    rejected: int


def keys_of(base_url: str, user: str) -> Found:
    """Get a user's keys.

    Raises:
        BadRequestError: `bad_user`, `bad_url`, `too_many`; ConflictError: `source_failed`.
    """
    url = url_of(base_url, user)
    keys, rejected = parse(_fetch(url))
    return Found(url, keys, rejected)


def url_of(base_url: str, user: str) -> str:
    """Return where a user's keys are.

    Raises:
        BadRequestError: `bad_user`: no GitHub login; `bad_url`: the hub's `keys_base_url`.
    """
    if _USER.fullmatch(user) is None:
        raise BadRequestError(
            "user: a GitHub login has 1 to 39 letters, digits or inner hyphens", code="bad_user"
        )
    parts = urlsplit(base_url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    if not is_safe or not parts.hostname:
        raise BadRequestError("keys_base_url: https, or http to loopback", code="bad_url")
    return f"{base_url.rstrip('/')}/{user}.keys"


def parse(text: str) -> tuple[list[Key], int]:
    """Read a list of keys, one a line.

    Raises:
        BadRequestError: `too_many`: a part of them would be anybody's choice.
    """
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) > MAX_KEYS:
        raise BadRequestError(f"{len(lines)} keys; at most {MAX_KEYS}", code="too_many")
    found = [read_line(line) for line in lines]
    keys = dict.fromkeys(key for key in found if key is not None)
    return list(keys), sum(key is None for key in found)


def read_line(line: str) -> Key | None:
    """Return the key of a line without options; None: it is anything else."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    try:
        key = load_ssh_public_key(f"{match[1]} {match[2]}".encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    is_weak = isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS
    return None if is_weak or isinstance(key, dsa.DSAPublicKey) else Key(match[1], match[2])


def _fetch(url: str) -> str:
    with requests.Session() as session:
        session.trust_env = False
        try:
            with session.get(
                url, allow_redirects=False, stream=True, timeout=DEADLINE_S,
                headers={"Accept": "text/plain", "Accept-Encoding": "identity"},
            ) as reply:  # fmt: skip
                return _body(reply)
        except requests.RequestException as error:
            raise ConflictError(
                f"the source of the keys does not answer ({type(error).__name__})",
                code="source_failed",
            ) from error


def _body(reply: requests.Response) -> str:
    if reply.status_code != 200 or "html" in reply.headers.get("Content-Type", ""):
        raise ConflictError(
            f"the source of the keys answers {reply.status_code}", code="source_failed"
        )
    deadline_s = time.monotonic() + DEADLINE_S
    body = b""
    for piece in reply.iter_content(16 * 1024):
        body += piece
        if len(body) > MAX_BYTES or time.monotonic() > deadline_s:
            raise ConflictError("the source's answer has no end", code="source_failed")
    return body.decode("utf-8", "replace")


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
