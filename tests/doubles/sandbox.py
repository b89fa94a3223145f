"""Worlds in which something is missing or wrong, around an agent and everything it starts.

Each function returns an argv prefix for AgentProcess. They need root: private mount and process
namespaces, so that nothing of the machine itself changes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.agent_process import AgentProcess
from tests.facilities import only_if, require, require_root

HERE = Path(__file__).parent
PRESSURE = Path("/proc/pressure/cpu")
FREEZER = Path("/sys/fs/cgroup/freezer")
# What a program needs of /dev; no ptmx, no pts.
DEVICES = ("null c 1 3", "zero c 1 5", "full c 1 7", "random c 1 8", "urandom c 1 9", "tty c 5 0")


@functools.cache
def _may_unshare() -> bool:
    argv = [require("unshare"), "-mfp", "--mount-proc", "true"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def need_namespaces() -> None:
    """Skip where not even root may mount: in most containers."""
    require_root()
    only_if(_may_unshare(), "root may not make namespaces and mounts")


def mounts(script: str) -> list[str]:
    """Run `script` in a mount namespace of its own, then the agent in it."""
    need_namespaces()
    return [require("unshare"), "-m", "sh", "-e", "-c", f'{script}\nexec "$@"', "sh"]


def without_terminals() -> list[str]:
    """No /dev/ptmx."""
    nodes = "\n".join(f"mknod -m 666 /dev/{device}" for device in DEVICES)
    links = "ln -s /proc/self/fd /dev/fd"
    return mounts(f"mount -t tmpfs -o mode=755 none /dev\n{nodes}\n{links}")


def at_home(folder: Path) -> list[str]:
    """Our account has its home in `folder`, whatever passwd(5) says here."""
    account = pwd.getpwuid(os.geteuid())
    lines = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    for fields in lines:
        if fields[0] == account.pw_name:
            fields[5] = str(folder)
    passwd = folder.parent / "passwd"
    passwd.write_text("".join(":".join(fields) + "\n" for fields in lines))
    return mounts(f"mount --bind {passwd} /etc/passwd")


def with_descriptors(limit: int) -> list[str]:
    """At most `limit` file descriptors for each process."""
    return ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"]


def as_init() -> list[str]:
    """The agent as process 1 of a container."""
    need_namespaces()
    return [require("unshare"), "-fp", "--mount-proc", "--kill-child"]


@dataclass
class Preloaded:
    """An endpoint under shims.c: see there. `prefix` starts it."""

    prefix: list[str]
    clock_file: Path
    hang_file: Path

    def step_clock(self, seconds: int) -> None:
        """Put the wall clock of the endpoint that far off; 0 is right."""
        with open(self.clock_file, "r+b") as file:
            file.write(struct.pack("=q", seconds))

    def hang_accounts(self, hanging: bool) -> None:
        """Let account lookups of workers hang, or go on."""
        if hanging:
            self.hang_file.touch()
        else:
            self.hang_file.unlink(missing_ok=True)


def preloaded(place: Path) -> Preloaded:
    """Compile the shims and have every process of the endpoint load them.

    By /etc/ld.so.preload in a private /etc: the agent hands no LD_PRELOAD down.
    """
    require_root()
    clock_file, hang_file, shim = place / "clock", place / "hang", place / "shims.so"
    clock_file.write_bytes(bytes(8))
    place.chmod(0o755)
    for path in (place, *place.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o011)
    subprocess.run(
        [
            require("cc"),
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            f'-DCLOCK_FILE="{clock_file}"',
            f'-DHANG_FILE="{hang_file}"',
            "-o",
            str(shim),
            str(HERE / "shims.c"),
            "-ldl",
        ],
        check=True,
    )
    etc = place / "etc"
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    (etc / "ld.so.preload").write_text(f"{shim}\n")
    script = f"mount --bind {etc} /etc\n{_calm(place)}"
    return Preloaded(mounts(script), clock_file, hang_file)


def _calm(place: Path) -> str:
    """The watchdog has more patience on a machine under pressure: this one never is."""
    if not PRESSURE.exists():
        return ""
    calm = place / "pressure"
    calm.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    return f"mount --bind {calm} {PRESSURE}"


@contextlib.contextmanager
def small_disk(agent: AgentProcess, mib: int) -> Iterator[Path]:
    """A state directory on a disk of its own; yields a file that fills it when it is filled.

    The agent is not started here, but ended.
    """
    need_namespaces()
    state = agent.state_dir
    options = f"size={mib}m,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "jackline", str(state)], check=True)
    try:
        yield state / "ballast"
        agent.close()
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
        agent.close()


def fill(ballast: Path) -> None:
    """Take every byte that is left."""
    with open(ballast, "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


@contextlib.contextmanager
def freezer(name: str) -> Iterator[Freezer]:
    """A cgroup that puts processes into D state, where SIGKILL waits (cgroup v1)."""
    require_root()
    path = FREEZER / name
    try:
        path.mkdir()
    except OSError:
        only_if(False, "no v1 freezer: nothing here ignores SIGKILL")
    frozen = Freezer(path)
    try:
        yield frozen
    finally:
        frozen.thaw()
        frozen.await_empty()
        path.rmdir()


@dataclass
class Freezer:
    """See `freezer`."""

    path: Path

    def freeze(self, *pids: int) -> None:
        for pid in pids:
            (self.path / "cgroup.procs").write_text(str(pid))
        (self.path / "freezer.state").write_text("FROZEN")

    def thaw(self) -> None:
        (self.path / "freezer.state").write_text("THAWED")

    def await_empty(self) -> None:
        deadline = time.monotonic() + 20
        while (self.path / "cgroup.procs").read_text():
            assert time.monotonic() < deadline, "processes left in the freezer"
            time.sleep(0.02)
