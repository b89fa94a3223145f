"""Keys, requests and proofs are what the wire says; a certificate of another key is refused."""

from __future__ import annotations

import base64
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.doubles.tls import DAY, Authority
from wire.enrolment import proof_bytes
from workers import certificates, client_tls
from workers.errors import CertificateError

KEY = certificates.new_key()


def test_proof_is_the_key_s_signature_over_what_the_wire_says() -> None:
    csr = x509.load_pem_x509_csr(certificates.request(KEY, "host").encode())
    public = csr.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey) and csr.is_signature_valid
    spki = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert certificates.thumbprint(KEY) == hashlib.sha256(spki).hexdigest()
    text = certificates.proof(KEY, "n" * 20)
    signature = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    said = proof_bytes("n" * 20, certificates.thumbprint(KEY))
    public.verify(signature, said, ec.ECDSA(hashes.SHA256()))


def test_life_is_told_and_another_key_s_certificate_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.sign(certificates.request(KEY, "host"), "agent", -DAY, DAY)
    life = certificates.life(own, KEY)
    assert life.not_before < life.not_after
    other = authority.sign(certificates.request(certificates.new_key(), "host"), "agent")
    for wrong in (other, "", "no certificate"):
        with pytest.raises(CertificateError):
            certificates.life(wrong, KEY)


def test_chain_is_searched_by_fingerprint(tmp_path: Path) -> None:
    first = Authority(tmp_path, "First CA").ca_file.read_text()
    second = Authority(tmp_path, "Second CA").ca_file.read_text()
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(second)).hexdigest()
    found = certificates.has_fingerprint("text before\n" + first + second, pin)
    assert found is not None and found.split() == second.split()
    assert certificates.has_fingerprint(first, pin) is None
    assert certificates.has_fingerprint("-----BEGIN CERTIFICATE-----\n!!", pin) is None


def test_client_certificate_goes_into_tls_and_leaves_no_file(tmp_path: Path) -> None:
    pem = Authority(tmp_path).sign(certificates.request(KEY, "host"), "agent")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_tls.load_client(context, pem, KEY)
    with pytest.raises(CertificateError):
        client_tls.load_client(context, pem, certificates.new_key())
    with pytest.raises(CertificateError):
        client_tls.load_client(context, "nonsense", KEY)
