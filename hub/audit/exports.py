"""A tenant's audit log as a file that can be checked anywhere with the hub's public key.

Rules: JSON lines: a head line with the tenant, one line a row as it was hashed, one a seal, and
last the signature of everything above it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub.audit.models import AuditRow, AuditSeal
from hub.audit.verification import Chain, Verdict, verify
from hub.errors import BadRequestError
from hub.keyring import Keyring

VERSION = 1
_ROW = (
    "tenant_id", "seq", "at_ms", "actor_kind", "actor_id", "actor_name", "address", "action",
    "outcome", "object_type", "object_id", "detail", "digest",
)  # fmt: skip
_SEAL = ("tenant_id", "seq", "digest", "at_ms", "signature")
_PREFIX = b"jackline audit export v1\n"


@dataclass(frozen=True)
class Export:
    """What a file holds."""

    rows: list[AuditRow]
    seals: list[AuditSeal]


def write(
    tenant: str, rows: Iterable[AuditRow], seals: Iterable[AuditSeal], keyring: Keyring
) -> Iterator[str]:
    """Write an export, line by line."""
    digest = sha256()
    for line in _lines(tenant, rows, seals):
        text = json.dumps(line, ensure_ascii=True, sort_keys=True) + "\n"
        digest.update(text.encode())
        yield text
    signature = keyring.signer.sign(_PREFIX + digest.digest()).hex()
    yield json.dumps({"signature": signature}) + "\n"


def check(text: str, key: Ed25519PublicKey) -> Verdict:
    """Check an export: its signature, then its chain.

    Raises:
        BadRequestError: it is no export, or not signed by that key.
    """
    body, _, last = text.rstrip("\n").rpartition("\n")
    body += "\n"
    try:
        signature = bytes.fromhex(json.loads(last)["signature"])
        key.verify(signature, _PREFIX + sha256(body.encode()).digest())
        found = _read(body)
    except InvalidSignature as error:
        raise BadRequestError("the export is not signed by this key, or was changed") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequestError("this is no audit export") from error
    return verify(Chain(found.rows, found.seals, None), key)


def _lines(
    tenant: str, rows: Iterable[AuditRow], seals: Iterable[AuditSeal]
) -> Iterator[dict[str, Any]]:
    yield {"audit": VERSION, "tenant": tenant}
    for row in rows:
        yield {"row": {name: getattr(row, name) for name in _ROW}}
    for seal in seals:
        yield {"seal": {name: getattr(seal, name) for name in _SEAL}}


def _read(body: str) -> Export:
    found = Export([], [])
    for line in map(json.loads, body.splitlines()[1:]):
        if "row" in line:
            found.rows.append(AuditRow(**{name: line["row"][name] for name in _ROW}))
        else:
            found.seals.append(AuditSeal(**{name: line["seal"][name] for name in _SEAL}))
    return found
