"""Take away from a worker all it does not need: `telemetry`, `files`, `heartbeat`, `tools`.

Four layers, each for what the others miss. Capabilities: the rights of root go. No new privileges:
exec gives none back. Landlock: files open only where granted. seccomp: no calls that reach other
processes, the kernel or local sockets, and none that change files past Landlock. A process that
keeps uid 0 still owns root's files, so the last two matter most.

Rules: call it first thing, with one thread; irreversible. What a kernel lacks is told in the
report with the fallback that took its place; what a kernel has but refuses raises. Modules that a
kind loads later are still found: the interpreter's own directories are readable.
Fallbacks: no Landlock (before 5.13): as root, become `fallback_user`, who cannot read the secrets
by plain modes; else the secrets stay readable and the report says so. No seccomp filter for this
architecture: signals stop at Landlock's border from 6.12, else at the uid.
Source: architecture "Privileges"; capabilities(7), landlock(7), seccomp(2).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from workers import accounts, capabilities, landlock, seccomp, syscall_numbers
from workers.errors import ConfinementError

assert sys.platform != "win32"

# What the C library, the resolver and TLS read. Never a whole /etc or /run: there lie secrets.
_SYSTEM_READ = (
    "/lib /lib32 /lib64 /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/share /usr/local/lib",
    "/usr/local/share /nix/store /gnu/store /proc",
    "/sys/class /sys/devices /sys/block /sys/bus /sys/dev /sys/fs/cgroup /sys/kernel/mm",
    "/etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/localtime /etc/timezone",
    "/etc/hosts /etc/host.conf /etc/resolv.conf /etc/nsswitch.conf /etc/gai.conf /etc/services",
    "/etc/protocols /etc/passwd /etc/group /etc/hostname /etc/os-release /etc/lsb-release",
    "/etc/mtab /etc/fstab /etc/ssl/certs /etc/ssl/cert.pem /etc/ssl/openssl.cnf /etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem /etc/pki/tls/openssl.cnf /etc/pki/ca-trust /etc/crypto-policies",
    "/run/systemd/resolve /run/NetworkManager/resolv.conf /run/NetworkManager/no-stub-resolv.conf",
    "/run/resolvconf/resolv.conf /run/connman/resolv.conf",
    "/dev/null /dev/zero /dev/random /dev/urandom",
)


class Confinement(NamedTuple):
    """What a kind may still do. Directories include all below them.

    `list_dirs`: names only, no contents. `network`: internet sockets, no listening. `keep`:
    capabilities to hold on to, as `capabilities.CAP_DAC_READ_SEARCH` for a directory list as root.
    `secret_dirs`: identity, configuration, state; granting a way to them is an error.
    """

    read_dirs: tuple[str, ...] = ()
    read_files: tuple[str, ...] = ()
    list_dirs: tuple[str, ...] = ()
    write_dirs: tuple[str, ...] = ()
    network: bool = False
    keep: frozenset[int] = frozenset()
    secret_dirs: tuple[str, ...] = ()
    fallback_user: str | None = None


class Report:
    """What holds now, and what this machine could not do and what holds instead."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.missing: list[str] = []


def confine(wanted: Confinement) -> Report:
    """Confine the calling process, for good.

    Raises:
        ConfinementError: it has more than one thread, a grant would open the secrets, or the
            kernel refused what it has. The caller must end: it may be half confined.
    """
    _check(wanted)
    report = Report()
    try:
        level = landlock.restrict(_grants(wanted), connect=wanted.network)
        _tell_landlock(report, level, wanted)
        capabilities.forbid_new_privileges()
        report.applied.append("no_new_privs")
        capabilities.keep_only(wanted.keep)
        report.applied.append("capabilities")
    except OSError as e:
        raise ConfinementError(f"could not be confined: {e}") from e
    _filter_calls(report, wanted, level)
    return report


def _check(wanted: Confinement) -> None:
    if sys.platform == "linux" and len(os.listdir("/proc/self/task")) > 1:
        raise ConfinementError("a second thread would stay unconfined")
    granted = (*wanted.read_dirs, *wanted.read_files, *wanted.write_dirs)
    for secret in wanted.secret_dirs:
        for path in granted:
            if path not in wanted.read_files and _is_within(secret, path):
                raise ConfinementError(f"{path} is granted, and {secret} lies in it")


def _is_within(path: str, directory: str) -> bool:
    inner, outer = os.path.realpath(path), os.path.realpath(directory)
    return os.path.commonpath((inner, outer)) == outer


def _grants(wanted: Confinement) -> Iterator[landlock.Grant]:
    for path in _runtime():
        yield landlock.Grant(path, landlock.READ)
    for line in _SYSTEM_READ:
        for path in line.split():
            yield landlock.Grant(path, landlock.READ)
    yield landlock.Grant("/dev/null", landlock.READ_FILE | landlock.WRITE_FILE)
    for path in (*wanted.read_dirs, *wanted.read_files):
        yield landlock.Grant(path, landlock.READ)
    # The import system lists a directory before it looks into it.
    for path in (*wanted.list_dirs, *filter(os.path.isabs, sys.path)):
        yield landlock.Grant(path, landlock.READ_DIR)
    for path in wanted.write_dirs:
        yield landlock.Grant(path, landlock.WRITE)


def _runtime() -> Iterator[str]:
    """The interpreter, its libraries, and our own houses, which may lie elsewhere."""
    yield from {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix} - {"/"}
    yield from (each for each in sys.path if each.endswith(("site-packages", "dist-packages")))
    here = os.path.dirname(os.path.abspath(__file__))
    yield here
    yield os.path.join(os.path.dirname(here), "wire")


def _tell_landlock(report: Report, level: int, wanted: Confinement) -> None:
    if level:
        report.applied.append(f"landlock {level}")
        return
    if wanted.fallback_user is not None and os.geteuid() == 0:
        accounts.drop_to(wanted.fallback_user)
        report.missing.append(f"no landlock in this kernel: became {wanted.fallback_user} instead")
        return
    report.missing.append("no landlock in this kernel: files are open as their modes say")


def _filter_calls(report: Report, wanted: Confinement, level: int) -> None:
    architecture = syscall_numbers.current()
    if architecture is None:
        report.missing.append("no call filter for this architecture: the other layers alone hold")
        return
    try:
        seccomp.install(seccomp.program(architecture, os.getpid(), wanted.network, level))
    except OSError as e:
        report.missing.append(f"no call filters in this kernel ({e.strerror})")
    else:
        report.applied.append(f"seccomp {architecture.name}")
