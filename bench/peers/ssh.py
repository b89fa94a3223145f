"""`ssh -tt` to an sshd of its own on loopback, with keys of its own.

It speaks no Socket.IO, so it is timed from this process, at the pipe of its client.
"""

from __future__ import annotations

import getpass
import os
import select
import shutil
import socket
import subprocess
import time
from pathlib import Path

SSHD_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class SshServer:
    """An sshd that lives as long as the bench, and the command line that reaches it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    @staticmethod
    def is_available() -> bool:
        return bool(shutil.which("sshd", path=SSHD_PATH) and shutil.which("ssh"))

    def start(self) -> None:
        self._directory.mkdir(mode=0o700)
        for name in ("host", "user"):
            path = self._directory / name
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
            subprocess.run(keygen, check=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self._directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self._port}\n"
            f"HostKey {self._directory}/host\n"
            f"AuthorizedKeysFile {self._directory}/user.pub\n"
            f"PidFile {self._directory}/pid\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
        )
        sshd = shutil.which("sshd", path=SSHD_PATH) or "sshd"
        self._process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL
        )
        self._wait_listening()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def session(self, command: str) -> SshSession:
        """Open a session that runs `command` in a terminal."""
        options = [
            f"Port={self._port}",
            f"IdentityFile={self._directory}/user",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self._directory}/known_hosts",
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
        ]
        argv = ["ssh", "-F", "none", "-tt"]
        for option in options:
            argv += ["-o", option]
        return SshSession([*argv, f"{getpass.getuser()}@127.0.0.1", command])

    def _wait_listening(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


class SshSession:
    """One `ssh -tt`, at its pipes."""

    def __init__(self, argv: list[str]) -> None:
        self.started = time.monotonic()
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()

    def read_bytes(self, count: int, timeout: float = 60.0) -> float:
        """Read until `count` bytes have come; return the time of the last."""
        deadline = time.monotonic() + timeout
        while count > 0:
            ready, _, _ = select.select([self._out], [], [], deadline - time.monotonic())
            data = os.read(self._out, 1 << 16) if ready else b""
            if not data:
                raise TimeoutError(f"ssh: {count} bytes never came")
            count -= len(data)
        return time.monotonic()

    def drain(self, quiet_s: float = 0.3) -> None:
        """Read until nothing comes for a while."""
        while select.select([self._out], [], [], quiet_s)[0]:
            if not os.read(self._out, 1 << 16):
                return

    def type(self, data: str) -> None:
        os.write(self._in, data.encode())

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)
