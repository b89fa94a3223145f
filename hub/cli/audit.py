"""Check the audit log without a running hub, or write it out, signed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import private_files
from hub.assembly import Hub
from hub.audit import exports, verification
from hub.audit.models import AuditHead, AuditRow, AuditSeal
from hub.audit.service import SYSTEM_CHAIN
from hub.audit.verification import Chain, Verdict
from hub.cli import exits, options, output
from hub.errors import BadRequestError, NotFoundError, SettingsError
from hub.operators.models import Tenant

SYSTEM = "system"


def run(argv: list[str]) -> int:
    """Run `jackline hub audit verify|export`."""
    chosen = _options(argv)
    if chosen.file is not None and chosen.word == "verify":
        return _told({str(chosen.file): _checked_file(chosen)})
    with options.opened(chosen) as hub:
        if chosen.word == "verify":
            return _told(hub.database.read_now(None, lambda session: verify_all(session, hub)))
        hub.database.read_now(None, lambda session: _export(session, hub, chosen))
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("audit", "Check the audit log, or write it out.")
    words = parser.add_subparsers(dest="word", required=True, metavar="WORD")
    check = words.add_parser("verify", help="check every chain, or an export; exit 1: it is broken")
    check.add_argument("--file", type=Path, metavar="EXPORT", help="check this export instead")
    check.add_argument("--key", metavar="HEX", help="the public key, where the hub is not here")
    write = words.add_parser("export", help="write a tenant's log to a file, signed")
    write.add_argument("--tenant", required=True, metavar="NAME", help=f"or `{SYSTEM}`")
    write.add_argument("file", type=Path, metavar="FILE")
    options.add_state_dir(words)
    return parser.parse_args(argv)


def _checked_file(chosen: argparse.Namespace) -> Verdict:
    try:
        text = chosen.file.read_text(encoding="utf-8")
        if chosen.key:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(chosen.key))
            return exports.check(text, key)
    except (OSError, ValueError) as error:
        raise BadRequestError(f"{chosen.file}: {error}") from error
    try:
        with options.opened(chosen) as hub:
            return exports.check(text, hub.keyring.signer.public_key())
    except SettingsError as error:
        raise SettingsError(f"{error}; --key names the public key without a hub") from error


def verify_all(session: Session, hub: Hub) -> dict[str, Verdict]:
    """Check every chain; returns a verdict for each tenant's name."""
    names = {tenant.id: tenant.name for tenant in session.scalars(select(Tenant))}
    chains = set(session.scalars(select(AuditHead.tenant_id)))
    chains |= set(session.scalars(select(AuditRow.tenant_id).distinct()))
    key = hub.keyring.signer.public_key()
    return {
        names.get(chain, chain) or SYSTEM: verification.verify(_chain(session, chain), key)
        for chain in sorted(chains)
    }


def _chain(session: Session, tenant_id: str) -> Chain:
    return Chain(
        _rows(session, tenant_id), _seals(session, tenant_id), session.get(AuditHead, tenant_id)
    )


def _rows(session: Session, tenant_id: str) -> Iterable[AuditRow]:
    query = select(AuditRow).where(AuditRow.tenant_id == tenant_id).order_by(AuditRow.seq)
    return session.scalars(query.execution_options(yield_per=1000))


def _seals(session: Session, tenant_id: str) -> list[AuditSeal]:
    query = select(AuditSeal).where(AuditSeal.tenant_id == tenant_id)
    return list(session.scalars(query.order_by(AuditSeal.seq)))


def _export(session: Session, hub: Hub, chosen: argparse.Namespace) -> None:
    chain = SYSTEM_CHAIN
    if chosen.tenant != SYSTEM:
        found = session.scalar(select(Tenant.id).where(Tenant.name == chosen.tenant))
        if found is None:
            raise NotFoundError(f"there is no tenant `{chosen.tenant}`")
        chain = found
    lines = exports.write(chosen.tenant, _rows(session, chain), _seals(session, chain), hub.keyring)
    private_files.create(chosen.file, "".join(lines))
    print(f"{chosen.file}: written; its public key is {hub.keyring.public_key_hex}")


def _told(verdicts: dict[str, Verdict]) -> int:
    for name, verdict in verdicts.items():
        if verdict.bad_seq is None:
            print(f"{output.clean(name)}: {verdict.rows} rows, whole")
        else:
            print(
                f"{output.clean(name)}: broken at sequence {verdict.bad_seq}: {verdict.why}",
                file=sys.stderr,
            )
    is_broken = any(verdict.bad_seq is not None for verdict in verdicts.values())
    return exits.FAILED if is_broken else exits.OK
