"""What is installed, read from the package managers' own files: dpkg, rpm, apk, pacman.

Rules: no program is run (a confined worker may not); a database that cannot be read is told.

Source: deb-control(5) "Status"; workers.heartbeat.rpm; apk's installed database.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wire.inventory import Package
from workers.heartbeat import rpm

READ_DIRS = (
    "/var/lib/dpkg",
    *(f"/{place}" for place in rpm.PLACES),
    "/lib/apk/db",
    "/usr/lib/apk/db",
    "/var/lib/pacman/local",
)
_APK_PLACES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")


def packages(root: Path = Path("/")) -> tuple[tuple[Package, ...], list[str]]:
    """Return every installed package, and what could not be read."""
    found: set[Package] = set()
    unread: list[str] = []
    for name, read in (("dpkg", _dpkg), ("rpm", rpm.packages), ("apk", _apk), ("pacman", _pacman)):
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
