"""The database of rpm, in each of its three forms, read as files.

Rules: no program is run and nothing is locked: what a running rpm writes may be missed, or be told
as not read. Every length and offset comes from the file and is checked. Forms: SQLite (Fedora, RHEL
9 and later), ndb (SUSE), the hash of Berkeley DB (RHEL 8 and before).

Source: rpm's format documentation, "Header"; rpm, lib/backend/ndb/rpmpkg.c; Berkeley DB,
src/dbinc/db_page.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from wire.inventory import Package

PLACES = ("var/lib/rpm", "usr/lib/sysimage/rpm")
MAX_HEADER_BYTES = 64 << 20
_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_MAX_ENTRIES = 1 << 16
_STRING, _INT32 = 6, 4
_NDB_MAGIC, _NDB_SLOT, _NDB_BLOB = b"RpmP\0\0\0\0", b"Slot", b"BlbS"
_NDB_PAGE_BYTES, _NDB_MAX_PAGES = 4096, 2048
_BDB_MAGIC = 0x061561
_BDB_HASH_PAGES, _BDB_OVERFLOW_PAGE, _BDB_OFF_PAGE = (2, 13), 7, 3
_BDB_HEAD_BYTES = 26


def packages(root: Path) -> Iterator[Package]:
    """Yield every package that rpm installed.

    Raises:
        FileNotFoundError: there is no database; OSError, ValueError: it cannot be read.
    """
    for blob in headers(root):
        package = parsed(blob)
        if package is not None:
            yield package


def headers(root: Path) -> Iterator[bytes]:
    """Yield the headers of the database, packages' and keys', as they stand there.

    Raises:
        FileNotFoundError: there is no database; OSError, ValueError: it cannot be read.
    """
    places = [(root / place / name, read) for place in PLACES for name, read in _FORMS.items()]
    found = [(path, read) for path, read in places if path.exists()]
    if not found:
        raise FileNotFoundError
    path, read = found[0]
    try:
        yield from read(path)
    except (struct.error, IndexError, OverflowError) as e:
        raise ValueError("a damaged database") from e


def parsed(blob: bytes) -> Package | None:
    """Read name, version and architecture out of a header; None for a key.

    Raises:
        ValueError: it is no header.
    """
    try:
        told = _tags(blob)
    except struct.error as e:
        raise ValueError("no rpm header") from e
    if _NAME not in told or told[_NAME] == "gpg-pubkey":
        return None
    version = f"{told.get(_VERSION, '')}-{told.get(_RELEASE, '')}"
    if told.get(_EPOCH, "0") != "0":
        version = f"{told[_EPOCH]}:{version}"
    return Package(
        name=told[_NAME][:1024], version=version[:1024], arch=told.get(_ARCH), source="rpm"
    )


def _tags(blob: bytes) -> dict[int, str]:
    count, length = struct.unpack_from(">II", blob)
    if count > _MAX_ENTRIES or 8 + 16 * count + length > len(blob):
        raise ValueError("no rpm header")
    base = 8 + 16 * count
    told: dict[int, str] = {}
    for at in range(8, base, 16):
        tag, kind, offset, _ = struct.unpack_from(">IIII", blob, at)
        if tag in (_NAME, _VERSION, _RELEASE, _ARCH) and kind == _STRING:
            start = base + offset
            told[tag] = blob[start : blob.index(b"\0", start)].decode(errors="replace")
        elif tag == _EPOCH and kind == _INT32:
            told[tag] = str(struct.unpack_from(">I", blob, base + offset)[0])
    return told


def _sqlite(path: Path) -> Iterator[bytes]:
    import sqlite3

    try:
        link = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
        try:
            for (blob,) in link.execute("SELECT blob FROM Packages"):
                yield blob
        finally:
            link.close()
    except sqlite3.Error as e:
        raise ValueError(str(e)) from e


def _ndb(path: Path) -> Iterator[bytes]:
    """Slots in the first pages, each with the place of a header in blocks of 16 bytes."""
    with FileIO(path) as file:
        head = _read(file, 0, 16)
        (pages,) = struct.unpack_from("<I", head, 12)
        if not head.startswith(_NDB_MAGIC) or pages > _NDB_MAX_PAGES:
            raise ValueError("no ndb database")
        slots = _read(file, 32, pages * _NDB_PAGE_BYTES - 32)
        for magic, package, block, _ in struct.iter_unpack("<4sIII", slots):
            if magic != _NDB_SLOT:
                raise ValueError("no slot")
            if package:
                said, whose, _, length = struct.unpack("<4sIII", _read(file, block * 16, 16))
                if (said, whose) != (_NDB_BLOB, package):
                    raise ValueError("no header in a slot's place")
                yield _read(file, block * 16 + 16, length)


def _bdb(path: Path) -> Iterator[bytes]:
    """Pages of a hash; what is as long as a header stands in a chain of pages of its own."""
    with FileIO(path) as file:
        meta = _read(file, 0, 72)
        order = "<" if struct.unpack_from("<I", meta, 12)[0] == _BDB_MAGIC else ">"
        magic, size, last = (struct.unpack_from(f"{order}I", meta, at)[0] for at in (12, 20, 32))
        if magic != _BDB_MAGIC or not 512 <= size <= 65_536:
            raise ValueError("no hash of Berkeley DB")
        for number in range(last + 1):
            page = _read(file, number * size, size)
            if page[25] in _BDB_HASH_PAGES:
                yield from _bdb_values(file, page, order)


def _bdb_values(file: FileIO, page: bytes, order: str) -> Iterator[bytes]:
    (count,) = struct.unpack_from(f"{order}H", page, 20)
    offsets = struct.unpack_from(f"{order}{count}H", page, _BDB_HEAD_BYTES)
    for at in offsets[1::2]:  # keys and values in turn
        if page[at] == _BDB_OFF_PAGE:
            first, length = struct.unpack_from(f"{order}II", page, at + 4)
            yield _bdb_chain(file, len(page), first, length, order)


def _bdb_chain(file: FileIO, size: int, number: int, length: int, order: str) -> bytes:
    found = bytearray()
    while len(found) < min(length, MAX_HEADER_BYTES):
        page = _read(file, number * size, size)
        (number,) = struct.unpack_from(f"{order}I", page, 16)
        (used,) = struct.unpack_from(f"{order}H", page, 22)
        if page[25] != _BDB_OVERFLOW_PAGE or used == 0:
            raise ValueError("a chain of pages is broken")
        found += page[_BDB_HEAD_BYTES : _BDB_HEAD_BYTES + used]
    return bytes(found)


def _read(file: FileIO, at: int, length: int) -> bytes:
    if not 0 <= length <= MAX_HEADER_BYTES:
        raise ValueError("a length that cannot be")
    file.seek(at)
    found = file.read(length)
    if len(found) != length:
        raise ValueError("a database that ends too early")
    return found


_FORMS: dict[str, Callable[[Path], Iterator[bytes]]] = {
    "rpmdb.sqlite": _sqlite,
    "Packages.db": _ndb,
    "Packages": _bdb,
}
