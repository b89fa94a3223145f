"""A real nginx before a hub, from the file that we ship: names, ports, files and secret changed."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path

from tests.doubles.hub_process import free_port
from tests.doubles.tls import CertFiles
from tests.facilities import ROOT, require

SHIPPED = ROOT / "packaging" / "nginx" / "jackline.conf"
DEADLINE_S = 120.0
_AROUND = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}
}}
"""


class Nginx:
    """See the module. `port` is the people's, `agents_port` the agents'."""

    def __init__(self, folder: Path, files: CertFiles, hub_port: int, secret: str) -> None:
        self.port, self.agents_port = free_port(), free_port()
        self._program = require("nginx")
        self._config = folder / "nginx.conf"
        site = SHIPPED.read_text(encoding="utf-8")
        for pattern, text in (
            (r"server 127\.0\.0\.1:8480;", f"server 127.0.0.1:{hub_port};"),
            (r"listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            (r"listen 8443 ssl;", f"listen 127.0.0.1:{self.agents_port} ssl;"),
            (r"/etc/ssl/hub\.example\.org\.pem", str(files.cert)),
            (r"/etc/ssl/private/hub\.example\.org\.key", str(files.key)),
            (r"change-me-to-the-output-of-openssl-rand-hex-32", secret),
        ):
            site, count = re.subn(pattern, text, site)
            assert count, pattern
        self._config.write_text(_AROUND.format(folder=folder, site=site), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Nginx:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config), "-e", str(self._config.parent / "start.log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + DEADLINE_S
        while not _answers(self.agents_port):
            assert self._process.poll() is None, "nginx ended"
            assert time.monotonic() < deadline_s, "nginx never answered"
            time.sleep(0.02)
        return self

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
