"""What the machine is: system, hardware, disks, interfaces, accounts.

Rules: reads files and the kernel's tables, never runs a program, never asks a mount how full it is;
what cannot be had is absent. Lists are sorted, and leave out what changes by itself.

Source: wire.inventory; os-release(5), passwd(5).
"""

from __future__ import annotations

import ipaddress
import os
import platform
import socket
import sys
from pathlib import Path

from wire.inventory import Disk, Hardware, Interface, OperatingSystem, User

_DMI = "sys/class/dmi/id"
# Come and go with every container, or are no disk.
_NO_DISKS = ("tmpfs", "overlay", "squashfs", "nsfs", "ramfs", "fuse.", "autofs", "nfs", "cifs")
_PASSING = ("veth", "docker", "br-", "cali", "flannel", "virbr", "tap")


def operating_system(root: Path = Path("/")) -> OperatingSystem:
    """Return what runs here."""
    told = _os_release(root)
    return OperatingSystem(
        name=told.get("PRETTY_NAME") or platform.system() or sys.platform,
        id=told.get("ID") or sys.platform,
        version=told.get("VERSION_ID") or platform.version(),
        kernel=platform.release(),
        arch=platform.machine(),
        hostname=socket.gethostname(),
        timezone=_timezone(root),
        init=_init(root),
    )


def hardware(root: Path = Path("/")) -> Hardware:
    """Return what it runs on."""
    import psutil

    return Hardware(
        vendor=text(root / _DMI / "sys_vendor"),
        model=text(root / _DMI / "product_name"),
        serial=text(root / _DMI / "product_serial"),
        cpu_model=_cpu_model(root),
        cpus=os.cpu_count(),
        cores=psutil.cpu_count(logical=False),
        memory_bytes=psutil.virtual_memory().total,
        swap_bytes=_swap_bytes(root),
        virtual=_virtual(root),
    )


def disks() -> tuple[Disk, ...]:
    """Return the local file systems that are mounted; each device once."""
    import psutil

    found: dict[str, Disk] = {}
    for each in psutil.disk_partitions(all=False):
        if each.fstype.startswith(_NO_DISKS):
            continue
        disk = Disk(
            mount=each.mountpoint,
            device=each.device,
            fstype=each.fstype,
            size_bytes=_size_bytes(each.device),
        )
        known = found.get(each.device)
        if known is None or len(disk.mount) < len(known.mount):
            found[each.device] = disk
    return tuple(sorted(found.values(), key=lambda disk: disk.mount))


def interfaces() -> tuple[Interface, ...]:
    """Return the network interfaces with their lasting addresses."""
    import psutil

    found = []
    for name, addresses in psutil.net_if_addrs().items():
        if name.startswith(_PASSING) or name == "lo":
            continue
        macs = [each.address for each in addresses if each.family == psutil.AF_LINK]
        lasting = {
            told
            for each in addresses
            if each.family in (socket.AF_INET, socket.AF_INET6)
            and (told := _address(each.address, each.netmask)) is not None
        }
        mac = macs[0] if macs else None
        found.append(Interface(name=name, mac=mac, addresses=tuple(sorted(lasting))))
    return tuple(sorted(found, key=lambda one: one.name))


def users(root: Path = Path("/")) -> tuple[User, ...]:
    """Return the local accounts."""
    found = []
    for line in (text(root / "etc/passwd", 1 << 20) or "").splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit() and fields[3].isdigit():
            name, _, uid, gid, _, home, shell = fields
            found.append(User(name=name, uid=int(uid), gid=int(gid), home=home, shell=shell))
    return tuple(sorted(found, key=lambda one: one.name))


def text(path: Path, most: int = 65_536) -> str | None:
    """Return a small file's text, or None where there is none to be had."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(most).strip().replace("\0", "") or None
    except OSError:
        return None


def _os_release(root: Path) -> dict[str, str]:
    for place in ("etc/os-release", "usr/lib/os-release"):
        told = text(root / place)
        if told:
            pairs = (line.partition("=") for line in told.splitlines())
            return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs if value}
    return {}


def _timezone(root: Path) -> str | None:
    named = text(root / "etc/timezone")
    if named:
        return named[:128]
    try:
        return os.readlink(root / "etc/localtime").partition("zoneinfo/")[2] or None
    except OSError:
        return None


def _init(root: Path) -> str | None:
    return text(root / "proc/1/comm") if sys.platform == "linux" else None


def _cpu_model(root: Path) -> str | None:
    for line in (text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()[:256]
    return platform.processor()[:256] or None


def _swap_bytes(root: Path) -> int | None:
    """From meminfo: psutil's own way asks for statistics that a container may not have."""
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("SwapTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _virtual(root: Path) -> str | None:
    if os.path.exists(root / ".dockerenv") or os.path.exists(root / "run/.containerenv"):
        return "container"
    return text(root / "sys/hypervisor/type")


def _size_bytes(device: str) -> int | None:
    sectors = text(Path("/sys/class/block") / os.path.basename(os.path.realpath(device)) / "size")
    return int(sectors) * 512 if sectors and sectors.isdigit() else None


def _address(address: str, netmask: str | None) -> str | None:
    """Spell an address with its prefix; None for one that this machine made for itself alone."""
    try:
        plain = ipaddress.ip_address(address.partition("%")[0])
        if plain.is_loopback or plain.is_link_local:
            return None
        if netmask is None:
            return str(plain)
        mask = ipaddress.ip_address(netmask)
    except ValueError:
        return None
    return f"{plain}/{int(mask).bit_count()}"
