"""Package managers' own files, read as they are."""

from __future__ import annotations

import sqlite3
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.heartbeat import rpm
from workers.heartbeat.packages import packages


def write(root: Path, place: str, text: str) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def header(**fields: str | int) -> bytes:
    """An rpm header as the database holds it."""
    tags = {"name": 1000, "version": 1001, "release": 1002, "epoch": 1003, "arch": 1022}
    index, store = b"", b""
    for name, value in fields.items():
        if isinstance(value, int):
            store += b"\0" * (-len(store) % 4)
            index += struct.pack(">IIII", tags[name], 4, len(store), 1)
            store += struct.pack(">I", value)
        else:
            index += struct.pack(">IIII", tags[name], 6, len(store), 1)
            store += value.encode() + b"\0"
    return struct.pack(">II", len(fields), len(store)) + index + store


def test_dpkg_tells_what_is_installed_and_not_what_was(tmp_path: Path) -> None:
    write(
        tmp_path,
        "var/lib/dpkg/status",
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n"
        "Description: a shell\n with Package: inside\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: half\nStatus: install ok half-installed\nVersion: 1\n",
    )
    (only,), unread = packages(tmp_path)
    assert (only.name, only.version, only.arch, only.source) == ("bash", "5.2-1", "amd64", "dpkg")
    assert unread == []


def test_apk_and_pacman_are_read_beside_each_other(tmp_path: Path) -> None:
    write(tmp_path, "lib/apk/db/installed", "C:Q1=\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nP:zlib\nV:1\n")
    desc = "%NAME%\nlinux\n\n%VERSION%\n6.1-1\n\n%ARCH%\nx86_64\n\n%DEPENDS%\na\nb\n"
    write(tmp_path, "var/lib/pacman/local/linux-6.1-1/desc", desc)
    found, _ = packages(tmp_path)
    told = [(one.name, one.version, one.source) for one in found]
    assert told == [("linux", "6.1-1", "pacman"), ("musl", "1.2.5-r0", "apk"), ("zlib", "1", "apk")]


def test_rpm_s_sqlite_database_is_read_and_keys_left_out(tmp_path: Path) -> None:
    place = tmp_path / "var/lib/rpm"
    place.mkdir(parents=True)
    with sqlite3.connect(place / "rpmdb.sqlite") as link:
        link.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        for blob in (
            header(name="openssl", version="3.0", release="1.el9", epoch=1, arch="x86_64"),
            header(name="bash", version="5.1", release="9.el9", arch="x86_64"),
            header(name="gpg-pubkey", version="8483c65d", release="5ccc5b19"),
        ):
            link.execute("INSERT INTO Packages (blob) VALUES (?)", (blob,))
    link.close()
    found, unread = packages(tmp_path)
    assert [(one.name, one.version) for one in found] == [
        ("bash", "5.1-9.el9"),
        ("openssl", "1:3.0-1.el9"),
    ]
    assert unread == []


def ndb(*blobs: bytes) -> bytes:
    """An rpm database in the form that SUSE has: slots in the first page, headers behind it."""
    slots, places = b"", b""
    for number, blob in enumerate(blobs, 1):
        block = (4096 + len(places)) // 16
        slots += struct.pack("<4sIII", b"Slot", number, block, 0)
        places += struct.pack("<4sIII", b"BlbS", number, 0, len(blob)) + blob
        places += b"\0" * (-len(places) % 16)
    free = struct.pack("<4sIII", b"Slot", 0, 0, 0) * (254 - len(blobs))
    return struct.pack("<4sIII16x", b"RpmP", 0, 1, 1) + slots + free + places


def test_rpm_s_own_database_is_read(tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/sysimage/rpm"
    place.mkdir(parents=True)
    zypper = header(name="zypper", version="1.14", release="1.1", arch="x86_64")
    (place / "Packages.db").write_bytes(ndb(zypper, header(name="gpg-pubkey", version="1")))
    (only,), unread = packages(tmp_path)
    assert (only.name, only.version, unread) == ("zypper", "1.14-1.1", [])


@pytest.mark.parametrize("name", ["rpmdb.sqlite", "Packages.db", "Packages"])
def test_rpm_database_that_is_none_is_told_as_not_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"var/lib/rpm/{name}", "no database, and long enough for a page of one" * 200)
    assert packages(tmp_path) == ((), ["packages: rpm: ValueError"])


@given(at=st.integers(0, 4300), what=st.binary(min_size=1, max_size=8))
def test_damaged_database_of_rpm_is_read_or_told(at: int, what: bytes) -> None:
    whole = ndb(header(name="bash", version="5.1", release="9", arch="x86_64"))
    damaged = whole[:at] + what + whole[at + len(what) :]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "var/lib/rpm"
        place.mkdir(parents=True)
        (place / "Packages.db").write_bytes(damaged)
        _, unread = packages(Path(folder))
    assert unread in ([], ["packages: rpm: ValueError"])


def test_machine_without_a_package_manager_has_none(tmp_path: Path) -> None:
    assert packages(tmp_path) == ((), [])


@given(blob=st.binary(max_size=200))
def test_any_bytes_are_a_package_or_refused(blob: bytes) -> None:
    try:
        rpm.parsed(blob)
    except ValueError:
        return


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_cut_header_is_refused(cut: int) -> None:
    with pytest.raises(ValueError):
        rpm.parsed(header(name="bash", version="5.1", release="9", arch="x86_64")[:cut])
