"""The hub's own certificate authority: signs what agents show, and what its listeners show.

Rules: one ECDSA P-256 root, made once, in the file `authority` of the state directory; its key is
sealed with the keyring. It signs leaves alone. A client's leaf names its agent (common name) and
its tenant (organisation); whether it is still good stands in the database, not in the leaf alone.
Source: RFC 5280; docs/explanation/security.rst.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub import private_files
from hub.clock import now_ms
from hub.errors import SettingsError
from hub.keyring import Keyring

FILE_NAME = "authority"
_OWNER = "authority"
_ROOT_DAYS = 3650
_SERVER_DAYS = 825
_BACKDATED = timedelta(minutes=5)  # a machine's clock may be a little behind ours
_PEM = serialization.Encoding.PEM


class Leaf(NamedTuple):
    """A certificate that was signed; stamps in milliseconds."""

    pem: str
    serial: str
    not_before_ms: int
    not_after_ms: int


class Authority:
    """The root, and what it does."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @property
    def chain_pem(self) -> str:
        """Return what a leaf is checked against."""
        return self.certificate.public_bytes(_PEM).decode()

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the root's DER form, as an enrolment token carries it."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return hashlib.sha256(der).hexdigest()

    def sign_client(
        self, key: ec.EllipticCurvePublicKey, agent_id: str, tenant_id: str, hours: float
    ) -> Leaf:
        """Sign an agent's key."""
        subject = [
            x509.NameAttribute(NameOID.COMMON_NAME, agent_id[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, tenant_id),
        ]
        builder = self._leaf(key, subject, timedelta(hours=hours)).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        return _told(builder.sign(self._key, hashes.SHA256()))

    def sign_server(self, names: Sequence[str]) -> tuple[str, str]:
        """Make a listener's certificate.

        Args:
            names: host names and addresses that it is reached by.

        Returns:
            certificate with its chain, and key, both PEM.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]
        builder = (
            self._leaf(key.public_key(), subject, timedelta(days=_SERVER_DAYS))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([*map(_san, names)]), critical=False)
        )
        leaf = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM).decode()
        return leaf + self.chain_pem, _key_pem(key)

    def has_signed(self, leaf: x509.Certificate) -> bool:
        """Tell whether a certificate is one of ours, whatever its dates."""
        try:
            leaf.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def _leaf(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: list[x509.NameAttribute[str]],
        life: timedelta,
    ) -> x509.CertificateBuilder:
        usage = x509.KeyUsage(True, *[False] * 8)
        return (
            _dated(x509.Name(subject), self.certificate.subject, key, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )


def load(state_dir: Path, keyring: Keyring) -> Authority:
    """Read the authority; the first call of a hub's life makes it.

    Raises:
        SettingsError: the file is damaged, not ours, or sealed with another keyring.
    """
    path = state_dir / FILE_NAME
    if not path.exists():
        _create(path, keyring)
    text = private_files.read(path)
    try:
        kept = json.loads(text)
        certificate = x509.load_pem_x509_certificate(kept["certificate"].encode())
        key_pem = keyring.unseal(kept["key"], _OWNER)
        key = serialization.load_pem_private_key(key_pem.encode(), None)
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is damaged: restore it from a backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{path} is damaged: restore it from a backup")
    return Authority(certificate, key)


def _create(path: Path, keyring: Keyring) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Jackline hub"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Jackline hub CA {now_ms()}"),
        ]
    )
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    root = (
        _dated(name, name, key.public_key(), timedelta(days=_ROOT_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    kept = {
        "certificate": root.public_bytes(_PEM).decode(),
        "key": keyring.seal(_key_pem(key), _OWNER),
    }
    private_files.create(path, json.dumps(kept))


def _dated(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _told(leaf: x509.Certificate) -> Leaf:
    return Leaf(
        pem=leaf.public_bytes(_PEM).decode(),
        serial=f"{leaf.serial_number:x}",
        not_before_ms=int(leaf.not_valid_before_utc.timestamp() * 1000),
        not_after_ms=int(leaf.not_valid_after_utc.timestamp() * 1000),
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
