"""A machine's key, its certificate request and its proof.

Rules: the one place of the endpoint that imports `cryptography`, and only inside the functions that
need it: for an enrolment and for a renewal. Keys are ECDSA P-256.

Source: contract part 2; wire.enrolment; RFC 2986.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
from typing import TYPE_CHECKING, NamedTuple

from wire.bodies import moment
from wire.enrolment import proof_bytes
from workers.errors import CertificateError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


class Life(NamedTuple):
    """From when to when a certificate is good, as moments of the wire."""

    not_before: str
    not_after: str


def new_key() -> str:
    """Make a private key; PEM, PKCS #8, not encrypted."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def request(key_pem: str, name: str) -> str:
    """Ask for a certificate of a key; PEM.

    Args:
        key_pem: from `new_key`.
        name: the subject's common name, which the hub replaces by its own.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64] or "agent")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = csr.sign(_loaded(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def thumbprint(key_pem: str) -> str:
    """Give the SHA-256 of a key's SubjectPublicKeyInfo, in lower-case hexadecimal."""
    return hashlib.sha256(_spki(_loaded(key_pem).public_key())).hexdigest()


def proof(key_pem: str, nonce: str) -> str:
    """Sign a hub's nonce, as `wire.enrolment` says."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    said = proof_bytes(nonce, thumbprint(key_pem))
    signature = _loaded(key_pem).sign(said, ec.ECDSA(hashes.SHA256()))
    return base64.urlsafe_b64encode(signature).decode().rstrip("=")


def life(certificate_pem: str, key_pem: str) -> Life:
    """Tell how long a certificate is good.

    Raises:
        CertificateError: it is none, or another key's.
    """
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        own = _spki(certificate.public_key()) == _spki(_loaded(key_pem).public_key())
    except (ValueError, TypeError) as e:
        raise CertificateError("the hub's answer holds no certificate") from e
    if not own:
        raise CertificateError("the hub's certificate is another key's")
    return Life(
        moment(certificate.not_valid_before_utc.timestamp()),
        moment(certificate.not_valid_after_utc.timestamp()),
    )


def has_fingerprint(chain_pem: str, sha256: str) -> str | None:
    """Return the certificate of a chain whose DER form has that SHA-256, as PEM; None: no one."""
    for block in chain_pem.split(_BEGIN)[1:]:
        one = f"{_BEGIN}{block.split(_END)[0]}{_END}\n"
        with contextlib.suppress(ValueError):
            if hashlib.sha256(ssl.PEM_cert_to_DER_cert(one)).hexdigest() == sha256:
                return one
    return None


_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def _loaded(key_pem: str) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError) as e:
        raise CertificateError("the machine's own key cannot be read") from e
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the machine's own key is of another kind")
    return key


def _spki(public: object) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encoded: bytes = public.public_bytes(  # type: ignore[attr-defined]  # any public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
