"""A machine for install.sh: its /etc, /opt, /run and /var are its own, its packages come from pip.

A mount name space hides the real ones; processes, accounts of the kernel and the network are the
real machine's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.facilities import ROOT, only_if, require, require_root

HIDDEN = ("/etc", "/opt", "/usr/local/bin", "/var/lib", "/var/log", "/run")
DEADLINE_S = 300.0


class Machine:
    """A mount name space that lives as long as this object."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path in HIDDEN:
            self.real(path).mkdir(parents=True)
        subprocess.run(["cp", "-a", "/etc/.", str(self.real("/etc"))], check=True)
        binds = "; ".join(f"mount --bind {self.real(path)} {path}" for path in HIDDEN)
        self._holder = subprocess.Popen(
            [require("unshare"), "-m", "sh", "-euc", f"{binds}; echo ready; exec sleep 3600"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        self.is_up = self._holder.stdout.readline() == "ready\n"

    def real(self, path: str) -> Path:
        """Return where a path of the machine lies on the real one."""
        return self.root / path.strip("/").replace("/", "-")

    def at(self, path: str) -> Path:
        top = next(hidden for hidden in HIDDEN if path.startswith(hidden))
        return self.real(top) / path[len(top) :].strip("/")

    def run(
        self, *words: str, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        enter = [require("nsenter"), "-t", str(self._holder.pid), "-m", "-w/"]
        done = subprocess.run(
            [*enter, *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
        return done

    def spawn(self, *words: str) -> subprocess.Popen[bytes]:
        enter = [require("nsenter"), "-t", str(self._holder.pid), "-m", "-w/"]
        return subprocess.Popen([*enter, *words], stderr=subprocess.DEVNULL)

    def spawn_agent(self, account: str) -> subprocess.Popen[bytes]:
        """Start `jackline run` as the unit does: as an account that can become nobody else."""
        self.run("install", "-d", "-m", "0700", "-o", account, "/run/jackline")
        become = ("setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups")
        home = ("env", "HOME=/var/lib/jackline")
        return self.spawn(*become, *home, "/opt/jackline/bin/jackline", "run")

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait(10)
        assert self._holder.stdout is not None
        self._holder.stdout.close()


@contextmanager
def bare(root: Path) -> Iterator[Machine]:
    """Give a machine on which nothing of ours has been yet."""
    require_root()
    only_if(bool(system_python()), "/usr/bin/python3 is older than 3.11 or has no venv")
    made = Machine(root)
    try:
        only_if(made.is_up, "mount name spaces cannot be made")
        yield made
    finally:
        made.close()


def wheel_in(folder: Path) -> Path:
    """Return the wheel under test; a checkout's is built, in `folder`."""
    for place in (ROOT / "build" / "wheel", ROOT.parent / "wheel"):
        if found := sorted(place.glob("jackline-*.whl")):
            return found[-1]
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("jackline-*.whl"))


def install(wheel: Path) -> list[str]:
    """The command line; another account than root may not run a Python in somebody's home."""
    script = str(ROOT / "packaging" / "install.sh")
    return [script, "--wheel", str(wheel), *system_python()]


def system_python() -> list[str]:
    code = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    done = subprocess.run(["/usr/bin/python3", "-c", code], check=False, capture_output=True)
    return ["--python", "/usr/bin/python3"] if done.returncode == 0 else []
