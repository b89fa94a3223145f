"""Throw-away certificates, good and bad, and a TLS server that records what it is told.

The server proves what left the client: `plaintext` is what came through a finished handshake,
`wire` every byte as it stood on the network.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.doubles.sockets import Listener

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class CertFiles:
    """PEM files of one certificate (with its chain) and its key."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority that lives as long as its directory."""

    def __init__(self, directory: Path, name: str = "Test CA") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._cert = _sign(
            self._name, self._name, self._key, self._key, hosts=[], ends=DAY, is_authority=True
        )
        self.ca_file = directory / f"{name.replace(' ', '-').lower()}.pem"
        self.ca_file.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts: str, ends: datetime.timedelta = DAY) -> CertFiles:
        """Issue a server certificate.

        Args:
            hosts: DNS names and addresses; by default localhost and 127.0.0.1.
            ends: its end, from now; negative for one that is expired.
        """
        names = list(hosts) or ["localhost", "127.0.0.1"]
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        cert = _sign(subject, self._name, key, self._key, hosts=names, ends=ends)
        return _write(self._directory, cert, key)

    def sign(
        self,
        csr_pem: str,
        name: str,
        starts: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
    ) -> str:
        """Sign a client certificate for the key of a certificate request; PEM."""
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        assert csr.is_signature_valid
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        cert = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return cert.public_bytes(serialization.Encoding.PEM).decode()


def self_signed(directory: Path, *hosts: str) -> CertFiles:
    """Make a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = list(hosts) or ["localhost", "127.0.0.1"]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    return _write(directory, _sign(name, name, key, key, hosts=names, ends=DAY), key)


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signing_key: ec.EllipticCurvePrivateKey,
    *,
    hosts: list[str],
    ends: datetime.timedelta,
    is_authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    )
    if is_authority:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
        )
    return builder.sign(signing_key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(directory: Path, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> CertFiles:
    stem = f"{cert.serial_number:x}"
    files = CertFiles(directory / f"{stem}.pem", directory / f"{stem}.key")
    files.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@dataclass
class Exchange:
    """One connection to a RecordingServer."""

    wire: bytearray = field(default_factory=bytearray)
    plaintext: bytearray = field(default_factory=bytearray)
    is_handshake_done: bool = False
    error: str = ""


class RecordingServer(Listener):
    """A TLS server that answers nothing and writes everything down."""

    def __init__(self, files: CertFiles) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files.cert, files.key)
        self.exchanges: list[Exchange] = []
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        exchange = Exchange()
        self.exchanges.append(exchange)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        while data := connection.recv(65536):
            exchange.wire += data
            incoming.write(data)
            try:
                self._advance(tls, exchange)
            except ssl.SSLError as error:
                exchange.error = error.reason or str(error)
                return
            finally:
                connection.sendall(outgoing.read())

    def _advance(self, tls: ssl.SSLObject, exchange: Exchange) -> None:
        try:
            if not exchange.is_handshake_done:
                tls.do_handshake()
                exchange.is_handshake_done = True
            while data := tls.read(65536):
                exchange.plaintext += data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return
