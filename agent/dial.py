"""Open one connection to the server: name, TCP, proxy, TLS. Blocking, with a deadline.

Rules: every failure is a `LinkError` of one sentence. Nothing is written on a TLS connection before
the certificate was verified, so a wrong server sees no query. One `Dialer` per attempt; `abort`,
from any thread, ends whatever it is doing (a name lookup apart) and every socket it gave out.

Source: contract 1.1; fault cases A.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.connect_auth import ServerAddress
from agent.errors import LinkError
from agent.proxies import Proxy, ProxySettings, proxy_for
from workers.errors import CertificateError
from workers.loop import now_s

_MAX_PROXY_ANSWER = 16 * 1024
# With a peer that is gone the system gives up after about a minute and a half of silence.
# Output that the system has taken and not yet sent is output that the fair queue cannot reorder.
NOTSENT_LOWAT = 16 * 1024
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class OwnTls(NamedTuple):
    """What we show of ourselves, and whose word we take for the other side."""

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True)
class TlsSettings:
    """How certificates are judged: the system's authorities, those given instead, or not at all.

    `ca_file` goes before `ca_data` (PEM). `own` is asked for each connection: certificate and key
    that are to be shown, and the authority that is believed beside the others then; all PEM.
    """

    ca_file: Path | None = None
    skip_verify: bool = False
    ca_data: str | None = None
    own: Callable[[], OwnTls | None] | None = None


class Dialer:
    """The sockets of one attempt."""

    def __init__(
        self, address: ServerAddress, tls: TlsSettings, proxies: ProxySettings, timeout_s: float
    ) -> None:
        self._address = address
        self._tls = tls
        self._proxies = proxies
        self._timeout_s = timeout_s
        self._deadline_s = now_s() + timeout_s
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_aborted = False

    def remaining_s(self) -> float:
        """Return the seconds left since the last `dial`, never less than a tenth.

        Raises:
            LinkError: `aborted`.
        """
        if self._is_aborted:
            raise LinkError("aborted", "the attempt was given up")
        return max(0.1, self._deadline_s - now_s())

    def dial(self) -> socket.socket:
        """Connect to the server.

        Returns:
            a socket, through proxy and TLS as need be, its timeout the rest of the attempt's.

        Raises:
            LinkError: why not.
        """
        self._deadline_s = now_s() + self._timeout_s
        try:
            return self._dial(self._address)
        except LinkError:
            self.close()
            raise

    def abort(self) -> None:
        """End every socket of this attempt; blocked threads wake with an error."""
        with self._lock:
            self._is_aborted = True
            sockets = list(self._sockets)
        for sock in sockets:
            _end(sock)

    def close(self) -> None:
        """Close every socket of this attempt, once nobody uses one."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()

    def _dial(self, address: ServerAddress) -> socket.socket:
        proxy = proxy_for(self._proxies, address.host, address.port, is_tls=address.is_tls)
        if proxy is None:
            sock = self._tcp(address.host, address.port, "the server")
        else:
            sock = self._tcp(proxy.host, proxy.port, "the proxy")
            _tunnel(sock, proxy, address)
        if address.is_tls:
            sock = self._secure(sock)
        sock.settimeout(self.remaining_s())
        return sock

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            if not self._is_aborted:
                self._sockets = [kept for kept in self._sockets if kept.fileno() >= 0]
                self._sockets.append(sock)
                return
        sock.close()
        self.remaining_s()

    def _tcp(self, host: str, port: int, who: str) -> socket.socket:
        try:
            # As bytes, so that a plain name does not load the codec for international ones.
            name: str | bytes = host.encode() if host.isascii() else host
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise LinkError("dns", f"the name {host} cannot be resolved: {_text(error)}") from error
        failure: OSError = OSError("no address")
        for family, kind, protocol, _, target in found:
            sock = socket.socket(family, kind, protocol)
            self._keep(sock)
            try:
                _tune(sock)
                sock.settimeout(self.remaining_s())
                sock.connect(target)
            except OSError as error:
                failure = error
                sock.close()
            else:
                return sock
        if isinstance(failure, TimeoutError):
            raise LinkError("tcp_timeout", f"{who} {host}:{port} does not answer") from failure
        raise LinkError(
            "tcp", f"{who} {host}:{port} cannot be reached: {_text(failure)}"
        ) from failure

    def _secure(self, sock: socket.socket) -> socket.socket:
        name = f"{self._address.host}:{self._address.port}"
        try:
            context = _context(self._tls)
        except (OSError, ssl.SSLError) as error:
            raise LinkError("ca_file", f"the CA file cannot be read: {_text(error)}") from error
        except CertificateError as error:
            raise LinkError("client_certificate", str(error)) from error
        try:
            sock.settimeout(self.remaining_s())
            secure = context.wrap_socket(sock, server_hostname=self._address.host)
        except ssl.SSLCertVerificationError as error:
            sentence = f"the certificate of {name} is refused: {error.verify_message}"
            raise LinkError("tls_refused", sentence) from error
        except TimeoutError as error:
            raise LinkError("tls", f"TLS with {name} did not finish in time") from error
        except (OSError, ValueError) as error:
            raise LinkError("tls", f"no TLS with {name}: {_text(error)}") from error
        self._keep(secure)
        return secure


def _end(sock: socket.socket) -> None:
    """Shut a socket down, so that threads blocked on it wake."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        return


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*_KEEPALIVE, ("TCP_NOTSENT_LOWAT", NOTSENT_LOWAT)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _tunnel(sock: socket.socket, proxy: Proxy, address: ServerAddress) -> None:
    """Ask a proxy for a tunnel to the server.

    Source: RFC 9110 9.3.6.
    """
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"CONNECT {host}:{address.port} HTTP/1.1", f"Host: {host}:{address.port}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        status = _proxy_status(sock)
    except (OSError, ValueError) as error:
        sentence = f"the proxy {proxy} gave no usable answer: {_text(error)}"
        raise LinkError("proxy_refused", sentence) from error
    if status == 407:
        what = "wants a user and password" if proxy.authorization is None else "refused them"
        raise LinkError("proxy_auth", f"the proxy {proxy} {what} (407)")
    if not 200 <= status < 300:
        raise LinkError("proxy_refused", f"the proxy {proxy} refused the tunnel with {status}")


def _proxy_status(sock: socket.socket) -> int:
    """Read the proxy's answer, byte by byte: what follows belongs to the tunnel."""
    answer = bytearray()
    while not answer.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(answer) >= _MAX_PROXY_ANSWER:
            raise ValueError("the answer has no end")
        answer += byte
    first = answer.split(b"\r\n", 1)[0].split()
    if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not first[1].isdigit():
        raise ValueError("that is no HTTP")
    return int(first[1])


def _context(tls: TlsSettings) -> ssl.SSLContext:
    if tls.skip_verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=tls.ca_file)
    elif tls.ca_data is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=tls.ca_data)
    else:
        import truststore  # only a server with TLS needs it

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    own = tls.own() if tls.own is not None else None
    if own is not None:
        from workers.client_tls import load_client  # only who must show one needs it

        load_client(context, own.certificate, own.key)
        if not tls.skip_verify:
            context.load_verify_locations(cadata=own.authority)
    return context


def _text(error: Exception) -> str:
    """Give an error's own words, without numbers and brackets round them."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
