"""What a machine's key shows: a certificate request, and a signature over a nonce. Pure.

Rules: keys are ECDSA P-256 and nothing else; the subject of a request is ignored; a thumbprint is
the SHA-256 of the key's SubjectPublicKeyInfo.
Source: wire.enrolment; RFC 2986.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub.errors import BadRequestError, UnauthorizedError
from wire.enrolment import proof_bytes
from wire.problem import Code


class ShownKey(NamedTuple):
    """A public key that a request showed, and proved to have."""

    key: ec.EllipticCurvePublicKey
    thumbprint: str


def read_csr(pem: str) -> ShownKey:
    """Read a certificate request.

    Raises:
        BadRequestError: `bad_csr`.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadRequestError("csr: not a PKCS #10 request in PEM", code=Code.BAD_CSR) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequestError("csr: the key must be ECDSA P-256", code=Code.BAD_CSR)
    if not is_signed:
        raise BadRequestError("csr: not signed by its own key", code=Code.BAD_CSR)
    return ShownKey(key, thumbprint(key))


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return a key's thumbprint, 64 hexadecimal digits."""
    info = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(info).hexdigest()


def check_proof(shown: ShownKey, nonce: str, proof: str) -> None:
    """Check a signature over a nonce.

    Raises:
        UnauthorizedError: `bad_proof`.
    """
    try:
        signature = base64.urlsafe_b64decode(proof + "=" * (-len(proof) % 4))
        signed = proof_bytes(nonce, shown.thumbprint)
        shown.key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature) as error:
        raise UnauthorizedError("the nonce is not signed by that key", code=Code.BAD_PROOF) from (
            error
        )
