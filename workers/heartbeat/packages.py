"""What is installed, read from the package managers' own files: dpkg, rpm, apk, pacman.

Rules: no program is run (a confined worker may not); a database that cannot be read is told. Of an
rpm database only the SQLite form is read, which every distribution has had since 2021; older ones
are told as not read.

Source: deb-control(5) "Status"; rpm's format documentation, "Header"; apk's installed database.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from wire.inventory import Package

READ_DIRS = (
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/usr/lib/sysimage/rpm",
    "/lib/apk/db",
    "/usr/lib/apk/db",
    "/var/lib/pacman/local",
)
_RPM_PLACES = ("var/lib/rpm", "usr/lib/sysimage/rpm")
_APK_PLACES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_MAX_ENTRIES = 1 << 16


def packages(root: Path = Path("/")) -> tuple[tuple[Package, ...], list[str]]:
    """Return every installed package, and what could not be read."""
    found: set[Package] = set()
    unread: list[str] = []
    for name, read in (("dpkg", _dpkg), ("rpm", _rpm), ("apk", _apk), ("pacman", _pacman)):
        try:
            found.update(read(root))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as e:
            unread.append(f"packages: {name}: {type(e).__name__}")
    order = sorted(found, key=lambda one: (one.name, one.version, one.arch or ""))
    return tuple(order), unread


def _dpkg(root: Path) -> Iterator[Package]:
    with open(root / "var/lib/dpkg/status", encoding="utf-8", errors="replace") as file:
        for fields in _paragraphs(file):
            if fields.get("Status", "").endswith(" installed"):
                yield _package(fields, "Package", "Version", "Architecture", "dpkg")


def _apk(root: Path) -> Iterator[Package]:
    place = next((root / each for each in _APK_PLACES if (root / each).exists()), None)
    if place is None:
        raise FileNotFoundError
    with open(place, encoding="utf-8", errors="replace") as file:
        for fields in _paragraphs(file):
            if "P" in fields:
                yield _package(fields, "P", "V", "A", "apk")


def _pacman(root: Path) -> Iterator[Package]:
    for entry in sorted(os.scandir(root / "var/lib/pacman/local"), key=lambda each: each.name):
        path = Path(entry.path) / "desc"
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            blocks = (block.strip().splitlines() for block in text.split("\n\n"))
            fields = {lines[0].strip("%"): lines[1] for lines in blocks if len(lines) > 1}
            yield _package(fields, "NAME", "VERSION", "ARCH", "pacman")


def _paragraphs(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in lines:
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields:
        yield fields


def _package(fields: dict[str, str], name: str, version: str, arch: str, source: str) -> Package:
    return Package(
        name=fields[name][:1024],
        version=fields.get(version, "")[:1024],
        arch=fields.get(arch),
        source=source,
    )


def _rpm(root: Path) -> Iterator[Package]:
    place = next((root / each for each in _RPM_PLACES if (root / each).is_dir()), None)
    if place is None:
        raise FileNotFoundError
    database = place / "rpmdb.sqlite"
    if not database.exists():
        if any((place / name).exists() for name in ("Packages", "Packages.db")):
            raise ValueError("an older form of the database")
        raise FileNotFoundError
    import sqlite3

    try:
        # What is in the write-ahead log is missed; nothing is locked and nothing is written.
        link = sqlite3.connect(f"file:{database}?immutable=1", uri=True)
        try:
            for (blob,) in link.execute("SELECT blob FROM Packages"):
                package = rpm_package(blob)
                if package is not None:
                    yield package
        finally:
            link.close()
    except sqlite3.Error as e:
        raise ValueError(str(e)) from e


def rpm_package(blob: bytes) -> Package | None:
    """Read name, version and architecture out of an rpm header; None for a key.

    Raises:
        ValueError: it is no header.
    """
    try:
        count, length = struct.unpack_from(">II", blob)
        if count > _MAX_ENTRIES or 8 + 16 * count + length > len(blob):
            raise ValueError("no rpm header")
        base = 8 + 16 * count
        told: dict[int, str] = {}
        for at in range(8, base, 16):
            tag, kind, offset, _ = struct.unpack_from(">IIII", blob, at)
            if tag in (_NAME, _VERSION, _RELEASE, _ARCH) and kind == 6:
                start = base + offset
                told[tag] = blob[start : blob.index(b"\0", start)].decode(errors="replace")
            elif tag == _EPOCH and kind == 4:
                told[tag] = str(struct.unpack_from(">I", blob, base + offset)[0])
    except struct.error as e:
        raise ValueError("no rpm header") from e
    if _NAME not in told or told[_NAME] == "gpg-pubkey":
        return None
    version = f"{told.get(_VERSION, '')}-{told.get(_RELEASE, '')}"
    if told.get(_EPOCH, "0") != "0":
        version = f"{told[_EPOCH]}:{version}"
    return Package(name=told[_NAME], version=version, arch=told.get(_ARCH), source="rpm")
