"""A hub's HTTP side, scripted: enrolment, device codes, beats, renewal, artifacts; with real TLS.

Speaks the structs of `wire` and keeps what it was told. Rule: what it shall do next is set before
it is asked. `lose_replies` cuts the connection after the request was served; `refuse` answers a
path with a problem; everything is under one lock.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.doubles.tls import DAY, Authority
from wire import bodies, enrolment, enroltoken, limits, paths
from wire.artifacts import DIGEST_HEADER, ArtifactResponse, read_digest
from wire.bodies import Body
from wire.commands import CommandResult, PendingCommand
from wire.enrolment import EnrollRequest
from wire.heartbeat import HeartbeatRequest, HeartbeatResponse
from wire.problem import Code, Problem

SERVER_URL = "http://127.0.0.1:9"


@dataclass
class Enrolled:
    """One agent that was taken in."""

    agent_id: str
    thumbprint: str
    bearer: str
    auth_token: str
    used: str
    serials: set[int] = field(default_factory=set)
    has_beaten: bool = False


class RefuseError(Exception):
    """The answer is a problem."""

    def __init__(self, status: int, code: str, retry_after_s: int | None = None, **more: Any):
        super().__init__(code)
        self.problem = Problem(title=code, status=status, code=code, **more)
        self.retry_after_s = retry_after_s


class HttpHub:
    """See the module.

    Args:
        directory: for certificates; given, it speaks TLS and has a second listener that asks for
            client certificates.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.lock = threading.RLock()
        self.authority = Authority(directory) if directory is not None else None
        self.tokens: set[str] = set()
        self.agents: dict[str, Enrolled] = {}
        self.beats: list[HeartbeatRequest] = []
        self.beat_times: list[float] = []
        self.bearers: list[str | None] = []
        self.certificates: list[int | None] = []
        self.results: dict[str, list[CommandResult]] = {}
        self.pending: list[PendingCommand] = []
        self.offers: Counter[str] = Counter()
        self.artifacts: dict[str, bytes] = {}
        self.interval_s = 60.0
        self.want_inventory = False
        self.policy: dict[str, Any] | None = None
        self.server_url = SERVER_URL
        self.certificate_ends = DAY
        self.certificate_starts = -DAY
        self.enforces_mtls = False
        self.lost: Counter[str] = Counter()
        self.refusals: dict[str, RefuseError] = {}
        self.enrols = 0
        self.renewals = 0
        self.connections = 0
        self.requests: list[tuple[str, str]] = []
        self.device_answers: list[RefuseError | None] = []
        self.device_codes: dict[str, str] = {}
        self._nonces: set[str] = set()
        self._changed = threading.Condition(self.lock)
        self._servers = [_Server(self, None)]
        if self.authority is not None and directory is not None:
            files = self.authority.issue()
            plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            plain.load_cert_chain(files.cert, files.key)
            asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            asking.load_cert_chain(files.cert, files.key)
            asking.load_verify_locations(self.authority.ca_file)
            asking.verify_mode = ssl.CERT_OPTIONAL
            self._servers[0].context = plain
            self._servers.append(_Server(self, asking))
        for server in self._servers:
            server.start()

    @property
    def url(self) -> str:
        return self._servers[0].url

    @property
    def agents_url(self) -> str | None:
        return self._servers[1].url if len(self._servers) > 1 else None

    @property
    def ca_sha256(self) -> str:
        assert self.authority is not None
        der = ssl.PEM_cert_to_DER_cert(self.authority.ca_file.read_text())
        return hashlib.sha256(der).hexdigest()

    def make_token(self) -> str:
        """Make a token that is good once."""
        token = enroltoken.make(secrets.token_bytes(16))
        with self.lock:
            self.tokens.add(token)
        return token

    def order(self, command_type: str = "collect_inventory", **params: Any) -> str:
        """Have a command offered with the next beat."""
        command = PendingCommand(
            command_id=secrets.token_hex(8),
            command_type=command_type,
            params=params,
            expires_at=bodies.moment(time.time() + 3600),
            lease_sec=60,
        )
        with self.lock:
            self.pending.append(command)
        return command.command_id

    def until(self, condition: Any, timeout_s: float = 120.0) -> Any:
        """Wait until something is true of this hub."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                raise AssertionError(f"never: {len(self.beats)} beats, results {self.results}")
            return condition()

    def final(self, command_id: str) -> CommandResult | None:
        """Return a command's last state, once it is final."""
        told = [r for r in self.results.get(command_id, []) if r.state in ("completed", "failed")]
        return told[0] if told else None

    def close(self) -> None:
        for server in self._servers:
            server.stop()

    def stop_listening(self) -> None:
        """Go away: connections are refused from now on."""
        for server in self._servers:
            server.stop()

    def listen_again(self) -> None:
        """Come back at the same addresses."""
        self._servers = [server.again() for server in self._servers]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the calls -------------------------------------------------------------------------------

    def serve(self, call: _Call) -> Body | None:
        """Answer one request; the body of a 200, or None for a 204."""
        with self._changed:
            self.requests.append((call.method, call.path))
            try:
                if (refusal := self.refusals.get(call.path)) is not None:
                    raise refusal
                return self._serve(call)
            finally:
                self._changed.notify_all()

    def _serve(self, call: _Call) -> Body | None:
        match call.path:
            case paths.ENROLL:
                return self._enroll(bodies.decode(EnrollRequest, call.body))
            case paths.HEARTBEAT:
                return self._beat(call)
            case paths.RENEW:
                return self._renew(call)
            case paths.UNENROLL:
                agent = self._who(call)
                del self.agents[agent.agent_id]
                return None
            case paths.CA:
                assert self.authority is not None
                return enrolment.CaResponse(ca_chain=self.authority.ca_file.read_text())
            case paths.DEVICE_CODE:
                return self._device_code(bodies.decode(enrolment.DeviceCodeRequest, call.body))
            case paths.DEVICE_TOKEN:
                bodies.decode(enrolment.DeviceTokenRequest, call.body)
                answer = self.device_answers.pop(0) if self.device_answers else None
                if answer is not None:
                    raise answer
                return enrolment.DeviceTokenResponse(token_type="enrolment")
            case paths.ARTIFACTS:
                return self._artifact(call)
            case _:
                raise RefuseError(404, Code.NOT_FOUND)

    def _enroll(self, request: EnrollRequest) -> Body:
        self.enrols += 1
        key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        thumbprint = hashlib.sha256(_spki(key)).hexdigest()
        secret = (request.token or request.device_code or "").strip()
        if secret in self.tokens:
            self.tokens.discard(secret)
            return self._take_in(request, thumbprint, secrets.token_hex(8), secret)
        known = next((each for each in self.agents.values() if each.used == secret), None)
        if known is None:
            raise RefuseError(401, Code.TOKEN_UNKNOWN)
        if known.thumbprint != thumbprint or known.has_beaten:
            raise RefuseError(409, Code.TOKEN_USED)
        if request.nonce is None or request.proof is None:
            nonce = secrets.token_urlsafe(24)
            self._nonces.add(nonce)
            raise RefuseError(409, Code.TOKEN_USED, nonce=nonce)
        if request.nonce not in self._nonces:
            raise RefuseError(401, Code.BAD_PROOF)
        self._nonces.discard(request.nonce)
        said = enrolment.proof_bytes(request.nonce, thumbprint)
        proof = base64.urlsafe_b64decode(request.proof + "=" * (-len(request.proof) % 4))
        try:
            key.verify(proof, said, ec.ECDSA(hashes.SHA256()))  # type: ignore[call-arg,arg-type]
        except InvalidSignature:
            raise RefuseError(401, Code.BAD_PROOF) from None
        return self._take_in(request, thumbprint, known.agent_id, secret)

    def _take_in(self, request: EnrollRequest, thumbprint: str, agent_id: str, used: str) -> Body:
        agent = Enrolled(
            agent_id, thumbprint, secrets.token_urlsafe(24), secrets.token_urlsafe(24), used
        )
        self.agents[agent_id] = agent
        return enrolment.EnrollResponse(
            agent_id=agent_id,
            asset_id=f"asset-{request.machine_id[:8]}",
            certificate=self._sign(agent, request.csr),
            ca_chain=self._ca().ca_file.read_text(),
            service_account_token=agent.bearer,
            auth_token=agent.auth_token,
            server_url=self.server_url,
            agents_url=self.agents_url,
        )

    def _ca(self) -> Authority:
        assert self.authority is not None, "certificates need a directory"
        return self.authority

    def _sign(self, agent: Enrolled, csr: str) -> str:
        pem = self._ca().sign(csr, agent.agent_id, self.certificate_starts, self.certificate_ends)
        agent.serials.add(x509.load_pem_x509_certificate(pem.encode()).serial_number)
        return pem

    def _who(self, call: _Call) -> Enrolled:
        if self.enforces_mtls:
            if call.serial is None:
                if call.asks:
                    raise RefuseError(403, Code.CERT_REQUIRED)
                raise RefuseError(401, Code.BEARER_RETIRED, agents_url=self.agents_url)
            found = [a for a in self.agents.values() if call.serial in a.serials]
            if not found:
                raise RefuseError(403, Code.CERT_UNKNOWN)
            return found[0]
        found = [a for a in self.agents.values() if call.bearer == a.bearer]
        if not found:
            raise RefuseError(401, Code.UNAUTHENTICATED)
        return found[0]

    def _beat(self, call: _Call) -> Body:
        agent = self._who(call)
        beat = bodies.decode(HeartbeatRequest, call.body, limits.MAX_BEAT_BYTES)
        if beat.agent_id != agent.agent_id:
            raise RefuseError(403, Code.IDENTITY_MISMATCH)
        agent.has_beaten = True
        self.beats.append(beat)
        self.beat_times.append(time.monotonic())
        self.bearers.append(call.bearer)
        self.certificates.append(call.serial)
        for result in beat.command_results:
            self.results.setdefault(result.command_id, []).append(result)
        offers, self.pending = tuple(self.pending), []
        self.offers.update(offer.command_id for offer in offers)
        wants, self.want_inventory = self.want_inventory, False
        return HeartbeatResponse(
            server_ts=time.time() * 1000,
            next_interval_sec=self.interval_s,
            pending_commands=offers,
            want_inventory=wants,
            policy=self.policy,
        )

    def _renew(self, call: _Call) -> Body:
        agent = self._who(call)
        self.renewals += 1
        self.certificate_starts, self.certificate_ends = -timedelta(minutes=1), DAY
        request = bodies.decode(enrolment.RenewRequest, call.body)
        return enrolment.RenewResponse(
            certificate=self._sign(agent, request.csr), ca_chain=self._ca().ca_file.read_text()
        )

    def _device_code(self, request: enrolment.DeviceCodeRequest) -> Body:
        code = secrets.token_urlsafe(24)
        self.device_codes[code] = request.key_thumbprint or ""
        self.tokens.add(code)
        return enrolment.DeviceCodeResponse(
            device_code=code,
            user_code="BCDF-GHJK",
            verification_uri=f"{self.url}/device",
            verification_uri_complete=f"{self.url}/device?user_code=BCDF-GHJK",
            expires_in=600,
            interval=1,
        )

    def _artifact(self, call: _Call) -> Body:
        self._who(call)
        sha256 = hashlib.sha256(call.body)
        if read_digest(call.headers.get(DIGEST_HEADER, "")) != sha256.digest():
            raise RefuseError(400, Code.BAD_DIGEST)
        artifact_id = f"artifact-{call.query['command_id'][0]}"
        self.artifacts[artifact_id] = call.body
        return ArtifactResponse(
            artifact_id=artifact_id, sha256=sha256.hexdigest(), size_bytes=len(call.body)
        )


@dataclass(frozen=True)
class _Call:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    asks: bool
    serial: int | None

    @property
    def bearer(self) -> str | None:
        said = self.headers.get("Authorization", "")
        return said.removeprefix("Bearer ") if said.startswith("Bearer ") else None


class _Server(ThreadingHTTPServer):
    """One listener; TLS is shaken in the connection's own thread."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, hub: HttpHub, context: ssl.SSLContext | None, port: int = 0) -> None:
        self.hub = hub
        self.context = context
        self.asks = context is not None and context.verify_mode is not ssl.CERT_NONE
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        scheme = "http" if self.context is None else "https"
        return f"{scheme}://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def again(self) -> _Server:
        server = _Server(self.hub, self.context, self.server_port)
        server.start()
        return server

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.hub.lock:
            self.hub.connections += 1
        request.settimeout(60.0)
        try:
            if self.context is not None:
                request = self.context.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError):
            return
        self._open.add(request)
        try:
            _Handler(request, client_address, self)
        finally:
            self._open.discard(request)
            with contextlib.suppress(OSError):
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        hub = self.server.hub
        parts = urlsplit(self.path)
        call = _Call(
            method,
            parts.path,
            parse_qs(parts.query),
            dict(self.headers),
            self.rfile.read(int(self.headers.get("Content-Length", 0))),
            self.server.asks,
            self._serial(),
        )
        headers: dict[str, str] = {}
        try:
            body = hub.serve(call)
            status, text = (204, b"") if body is None else (200, bodies.encode(body))
        except RefuseError as e:
            status, text = e.problem.status, bodies.encode(e.problem)
            if e.retry_after_s is not None:
                headers["Retry-After"] = str(e.retry_after_s)
        if hub.lost[call.path] > 0:
            hub.lost[call.path] -= 1
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", paths.JSON if status < 400 else paths.PROBLEM)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _serial(self) -> int | None:
        if not isinstance(self.connection, ssl.SSLSocket):
            return None
        der = self.connection.getpeercert(binary_form=True)
        return None if not der else x509.load_der_x509_certificate(der).serial_number

    def log_message(self, *args: Any) -> None:
        return


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
