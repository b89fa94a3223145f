"""What a machine is made of, as its heartbeat reports it when it has changed.

Rules: lists are sorted, so that the same machine gives the same digest; what moves all the time
(free space, counters, the moment of collection) is no part of it. A list that was cut or could not
be had is named in `incomplete`. No secret: an account's name and shell, never its password's hash;
of a timer or a crontab its schedule and command.

Source: contract part 2 (`inventory`, `inventory_digest`, `want_inventory`).
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from wire import limits
from wire.bodies import Body, Entry

Text = Annotated[str, Meta(max_length=1024)]
Number = Annotated[int, Meta(ge=0, le=limits.MAX_SAFE_INTEGER)]


class OperatingSystem(Entry, frozen=True, kw_only=True):
    """`id`, `version` and `name` as /etc/os-release has them, or the platform's own words."""

    name: Text
    id: Text | None = None
    version: Text | None = None
    kernel: Text | None = None
    arch: Text | None = None
    hostname: Text | None = None
    timezone: Text | None = None
    init: Text | None = None


class Hardware(Entry, frozen=True, kw_only=True):
    """Memory and swap in bytes."""

    vendor: Text | None = None
    model: Text | None = None
    serial: Text | None = None
    cpu_model: Text | None = None
    cpus: Number | None = None
    cores: Number | None = None
    memory_bytes: Number | None = None
    swap_bytes: Number | None = None
    virtual: Text | None = None


class Disk(Entry, frozen=True, kw_only=True):
    """A mounted file system of a disk; its size in bytes."""

    mount: Text
    device: Text | None = None
    fstype: Text | None = None
    size_bytes: Number | None = None


class Interface(Entry, frozen=True, kw_only=True):
    """A network interface, its hardware address and its addresses with prefix length."""

    name: Text
    mac: Text | None = None
    addresses: tuple[Text, ...] = ()


class Package(Entry, frozen=True, kw_only=True):
    """An installed package; `source` is the package manager."""

    name: Text
    version: Text
    arch: Text | None = None
    source: Text | None = None


class Service(Entry, frozen=True, kw_only=True):
    """A service; `state` and `enabled` in the service manager's words."""

    name: Text
    state: Text | None = None
    enabled: Text | None = None


class User(Entry, frozen=True, kw_only=True):
    """A local account."""

    name: Text
    uid: Number | None = None
    gid: Number | None = None
    home: Text | None = None
    shell: Text | None = None


class Timer(Entry, frozen=True, kw_only=True):
    """Something that runs by the clock: a systemd timer or a crontab's line."""

    name: Text
    source: Text
    schedule: Text | None = None
    command: Text | None = None
    user: Text | None = None


class AgentFacts(Entry, frozen=True, kw_only=True):
    """The agent itself; `policy_digest` is the SHA-256 of the policy in force."""

    version: Text
    profile: Text | None = None
    policy_digest: Text | None = None


class Inventory(Body, frozen=True, kw_only=True):
    """All of it."""

    agent: AgentFacts
    os: OperatingSystem
    hardware: Hardware
    disks: Annotated[tuple[Disk, ...], Meta(max_length=1000)] = ()
    interfaces: Annotated[tuple[Interface, ...], Meta(max_length=1000)] = ()
    packages: Annotated[tuple[Package, ...], Meta(max_length=20_000)] = ()
    services: Annotated[tuple[Service, ...], Meta(max_length=5000)] = ()
    users: Annotated[tuple[User, ...], Meta(max_length=5000)] = ()
    timers: Annotated[tuple[Timer, ...], Meta(max_length=5000)] = ()
    incomplete: tuple[Text, ...] = ()


def digest(inventory: Inventory) -> str:
    """Give the SHA-256 that stands for an inventory: of its JSON, keys sorted."""
    return hashlib.sha256(msgspec.json.encode(inventory, order="sorted")).hexdigest()
