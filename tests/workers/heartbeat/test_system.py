"""What the machine is, from its own files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest

from wire import inventory
from wire.inventory import AgentFacts, Hardware, Inventory, OperatingSystem, Package
from workers.heartbeat import system
from workers.heartbeat.stocktaker import collect, fitted
from workers.messages_heartbeat import InventorySpec

SPEC = InventorySpec(version="1", profile="reporter", policy_digest="d")


def test_this_machine_is_told_and_twice_the_same() -> None:
    first, second = collect(SPEC), collect(SPEC)
    assert inventory.digest(first) == inventory.digest(second)
    assert first.os.hostname == socket.gethostname() and first.os.name
    assert first.hardware.cpus == os.cpu_count()
    assert first.hardware.memory_bytes and first.users


def test_sections_that_were_not_asked_for_stay_empty() -> None:
    told = collect(msgspec.structs.replace(SPEC, sections=["users"]))
    assert told.users and not told.packages and not told.services and not told.timers


def test_accounts_come_without_what_is_no_account(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    lines = "root:x:0:0:root:/root:/bin/bash\n\nbroken\nx:y:a:b:c:d:e\n+nis::::::\n"
    (tmp_path / "etc/passwd").write_text(lines)
    (only,) = system.users(tmp_path)
    assert (only.name, only.uid, only.home, only.shell) == ("root", 0, "/root", "/bin/bash")


@pytest.mark.parametrize(
    ("address", "netmask", "told"),
    [
        ("192.0.2.7", "255.255.255.0", "192.0.2.7/24"),
        ("2001:db8::1%eth0", "ffff:ffff:ffff:ffff::", "2001:db8::1/64"),
        ("fe80::1%eth0", "ffff::", None),
        ("127.0.0.1", "255.0.0.0", None),
        ("192.0.2.7", None, "192.0.2.7"),
        ("nonsense", "x", None),
    ],
)
def test_lasting_addresses_alone_are_told(
    address: str, netmask: str | None, told: str | None
) -> None:
    assert system._address(address, netmask) == told


def test_inventory_that_is_too_long_is_cut_and_says_so() -> None:
    packages = tuple(Package(name=f"package-{n}", version="1") for n in range(5000))
    whole = Inventory(
        agent=AgentFacts(version="1"),
        os=OperatingSystem(name="x"),
        hardware=Hardware(),
        packages=packages,
    )
    cut = fitted(whole, 50_000)
    assert len(msgspec.json.encode(cut)) <= 50_000
    assert cut.incomplete == ("packages: cut",) and 500 < len(cut.packages) < 5000
    assert fitted(whole) is whole
