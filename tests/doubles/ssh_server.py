"""A real sshd on loopback with keys of its own, for tests that copy to another host."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.facilities import require


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class SshServer:
    """Runs in the foreground below us.

    Args:
        force: replaces every command that a client asks for.
        more: further lines of its configuration.
    """

    def __init__(self, folder: Path, force: str | None = None, more: Sequence[str] = ()) -> None:
        sshd, keygen = require("sshd"), require("ssh-keygen")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.user = getpass.getuser()
        self.identity = folder / "id"
        self.known_hosts = folder / "known_hosts"
        for name in ("id", "host", "other"):
            subprocess.run(
                [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
            )
        (folder / "authorized_keys").write_bytes((folder / "id.pub").read_bytes())
        self.trust("host")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {folder / 'host'}",
            f"AuthorizedKeysFile {folder / 'authorized_keys'}",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "PidFile none",
            "UsePAM no",
            "MaxStartups 100",
            # The level: bash then leaves out ~/.bashrc, which is not what is tested or measured.
            f"SetEnv PATH={os.environ['PATH']} SHLVL=2",
        ]
        if force:
            lines.append(f"ForceCommand {force}")
        lines.extend(more)
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        self._argv = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def logins(self) -> int:
        """How often anybody has logged in."""
        return (self.folder / "log").read_text().count("Accepted publickey")

    def trust(self, key: str) -> None:
        """Let the client's known_hosts hold this key for us: `host` is right, `other` is not."""
        kind, text, *_ = (self.folder / f"{key}.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    def host_key(self, key: str) -> None:
        """Show that key from now on, as another machine at this address would."""
        self.stop()
        config = self.folder / "sshd_config"
        here, other = f"HostKey {self.folder / 'host'}", f"HostKey {self.folder / key}"
        config.write_text(config.read_text().replace(here, other))
        self.start()

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(self._argv, stdout=log, stderr=log, start_new_session=True)
        log.close()
        end = time.monotonic() + 30.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)

    def sessions(self) -> list[int]:
        """Return the processes of all that are logged in."""
        return [] if self._process is None else _sessions(self._process.pid)

    def stop(self) -> None:
        """End the listener and every session, as a host that goes away does."""
        if self._process is None:
            return
        for pid in self.sessions():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.kill()
        self._process.wait(30)
        self._process = None


def _sessions(parent: int) -> list[int]:
    found, waiting = [], [parent]
    while waiting:
        pid = waiting.pop()
        try:
            text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            continue
        children = [int(each) for each in text.split()]
        found += children
        waiting += children
    return found
