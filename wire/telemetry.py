"""`stats`: what the machine is doing.

Rules: a figure that could not be had is absent. Numbers are taken as they come: fielded agents on
other systems give fractions and percentages as text.

Source: contract 1.9.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from wire import features
from wire.fields import Amount, Id, Name, Part, Payload, Stamp


class Memory(Part, frozen=True, kw_only=True):
    """Bytes."""

    used: Amount | None = None
    free: Amount | None = None
    total: Amount | None = None


class Load(Part, frozen=True, kw_only=True):
    """Load averages."""

    one: Amount | None = msgspec.field(default=None, name="1m")
    five: Amount | None = msgspec.field(default=None, name="5m")
    fifteen: Amount | None = msgspec.field(default=None, name="15m")


class Disk(Part, frozen=True, kw_only=True):
    """One mounted file system; `used` and `avail` in bytes, `capacity` in percent."""

    mount: str | None = None
    fsname: str | None = None
    fstype: str | None = None
    used: Amount | None = None
    avail: Amount | None = None
    capacity: Amount | Name | None = None


class Interface(Part, frozen=True, kw_only=True):
    """One network interface; totals in bytes, rates in bytes a second."""

    name: str | None = None
    rx_bytes: Amount | None = None
    tx_bytes: Amount | None = None
    rx_bps: Amount | None = None
    tx_bps: Amount | None = None


class Sample(Part, frozen=True, kw_only=True):
    """One look at the machine; `cpu` is the percentage over the interval before it."""

    ts: Stamp | None = None
    cpu: Amount | None = None
    mem: Memory | None = None
    load: Load | None = None
    disk: tuple[Disk, ...] | None = None
    net: tuple[Interface, ...] | None = None
    disk_percent: Amount | None = None
    uptime_sec: Amount | None = None
    net_latency_ms: Amount | None = None
    hostname: str | None = None
    platform: str | None = None
    release: str | None = None
    arch: str | None = None
    kernel_version: str | None = None
    cpus: Amount | None = None
    agent_version: str | None = None
    truncated: bool | None = None


class Stats(Payload, frozen=True, kw_only=True):
    """Sent after `hello_ack` and every `statsIntervalSec`.

    `overdue_backups`: scheduled plans that did not run in time, as the machine sees it.
    """

    OURS: ClassVar = {"overdue_backups": features.BACKUP2}

    data: Sample
    overdue_backups: Annotated[tuple[Id, ...], Meta(max_length=200)] | None = None
