"""Stands for github.com: serves `/<user>.keys` over loopback HTTP or HTTPS, well or badly.

Rule: what it shall answer is set before it is asked; what it was asked is in `requests`.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.doubles.tls import CertFiles


class KeyServer:
    """Answers every GET with `status`, `headers` and `body`.

    Args:
        files: a certificate makes it HTTPS.
    """

    def __init__(self, files: CertFiles | None = None) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8"}
        self.body = b""
        self.drip = False  # one byte a second, until the client is gone
        self.promised_bytes: int | None = None  # Content-Length, if it shall be a lie
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._gone = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        if files is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.cert, files.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if files is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, dict(self.headers)))
                self.send_response(server.status)
                length = server.promised_bytes
                self.send_header(
                    "Content-Length", str(len(server.body) if length is None else length)
                )
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self._send_body()

            def _send_body(self) -> None:
                step = 1 if server.drip else len(server.body)
                for at in range(0, len(server.body), step or 1):
                    self.wfile.write(server.body[at : at + step])
                    if server.drip and server._gone.wait(1.0):
                        return

            def log_message(self, *args: Any) -> None:
                return

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or refuses our certificate, is what the tests are about."""
