"""Where figures are taken: a directory, an sshd, a big file, and linked peers."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.hub import MeasuringHub
from bench.peers import BASH, Peer, Setup
from bench.peers.ssh import SshServer
from bench.relay import SlowLink

BULK_LINES = 1_000_000
BULK_LINE = "0123456789 abcdefghij klmnopqrst uvwxyz".ljust(99, ".") + "\n"
# A terminal turns each newline into CR LF.
BULK_BYTES = BULK_LINES * (len(BULK_LINE) + 1)


class Setting:
    """What all figures share; leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bench-", dir=directory))
        self.ssh = SshServer(self.directory / "ssh")
        self.bulk_file = self.directory / "bulk.txt"

    def __enter__(self) -> Self:
        with self.bulk_file.open("w") as file:
            for _ in range(BULK_LINES // 1000):
                file.write(BULK_LINE * 1000)
        self.ssh.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ssh.stop()
        shutil.rmtree(self.directory)

    @contextmanager
    def linked(
        self,
        peer: Peer,
        *,
        shell: tuple[str, tuple[str, ...]] = BASH,
        credit: bool = False,
        bytes_per_s: int | None = None,
    ) -> Iterator[MeasuringHub]:
        """A hub with a freshly started peer on it.

        Args:
            shell: command and arguments of its sessions.
            credit: whether both sides list the feature `credit`, and no other.
            bytes_per_s: the link's speed each way; None is plain loopback.
        """
        with ExitStack() as stack:
            hub = stack.enter_context(MeasuringHub(("credit",) if credit else ()))
            port = hub.port
            if bytes_per_s is not None:
                port = stack.enter_context(SlowLink(hub.port, bytes_per_s)).port
            directory = Path(tempfile.mkdtemp(dir=self.directory))
            peer.start(Setup(f"http://127.0.0.1:{port}", directory, shell, credit))
            stack.callback(peer.stop)
            hub.wait_linked()
            yield hub

    def fsync_seconds(self, count: int = 200) -> list[float]:
        """Time the fsync of small appends to a file beside the agents' state."""
        taken = []
        fd = os.open(self.directory / "fsync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for _ in range(count):
            os.write(fd, b"x" * 512)
            started = time.monotonic()
            os.fsync(fd)
            taken.append(time.monotonic() - started)
        os.close(fd)
        return taken
