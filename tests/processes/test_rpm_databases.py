"""Databases that rpm itself and Berkeley DB wrote are read without either of them.

Debian's rpm writes the SQLite form alone; tests/workers/heartbeat has one of SUSE's form.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.facilities import require
from workers.heartbeat import rpm

SPEC = """
Name: jackline-{name}
Version: 1.{number}
Release: {number}%{{?dist}}
{epoch}Summary: for a test
License: none
BuildArch: noarch
%description
{text}
%files
"""
COUNT = 12
TEXT = "What makes a header as long as real ones are.\n" * 200


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Packages without files, made by rpmbuild."""
    folder = tmp_path_factory.mktemp("built")
    specs = []
    for number in range(COUNT):
        epoch = "Epoch: 3\n" if number == 5 else ""
        spec = folder / f"{number}.spec"
        spec.write_text(SPEC.format(name=f"p{number}", number=number, epoch=epoch, text=TEXT))
        specs.append(spec)
    run(folder, require("rpmbuild"), "-bb", "--quiet", "--define", f"_topdir {folder}", *specs)
    found = sorted(folder.glob("RPMS/noarch/*.rpm"))
    assert len(found) == COUNT
    return found


def run(folder: Path, *words: object, stdin: bytes = b"") -> bytes:
    """Run a program whose settings are its own defaults."""
    argv = list(map(str, words))
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, env=env, input=stdin, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return done.stdout


def installed(folder: Path, built: list[Path]) -> Path:
    """Install the packages under a root of their own; return it."""
    root = folder / "root"
    root.mkdir()
    run(folder, *rpm_at(root), "--initdb")
    run(folder, *rpm_at(root), "-i", "--justdb", "--nodeps", "--nosignature", *built)
    return root


def rpm_at(root: Path) -> list[str]:
    return [require("rpm"), "--root", str(root), "--define", "_dbpath /var/lib/rpm"]


def told(root: Path) -> list[tuple[str, str, str | None]]:
    return sorted((one.name, one.version, one.arch) for one in rpm.packages(root))


def expected() -> list[tuple[str, str, str | None]]:
    return sorted(
        (f"jackline-p{n}", f"{'3:' if n == 5 else ''}1.{n}-{n}", "noarch") for n in range(COUNT)
    )


def as_berkeley_db(folder: Path, root: Path) -> Path:
    """Write the same headers into a hash as rpm had it before, by Berkeley DB's own loader."""
    database = folder / "old/var/lib/rpm/Packages"
    database.parent.mkdir(parents=True)
    lines = ["VERSION=3", "format=bytevalue", "type=hash", "db_pagesize=4096", "HEADER=END"]
    for number, blob in enumerate(rpm.headers(root), 1):
        lines += [f" {number.to_bytes(4, 'little').hex()}", f" {blob.hex()}"]
    lines += [f" {bytes(4).hex()}", f" {COUNT.to_bytes(4, 'little').hex()}", "DATA=END", ""]
    run(folder, require("db5.3_load"), database, stdin="\n".join(lines).encode())
    return folder / "old"


def test_database_that_rpm_wrote_is_read(tmp_path: Path, built: list[Path]) -> None:
    root = installed(tmp_path, built)
    assert told(root) == expected()
    run(tmp_path, *rpm_at(root), "-e", "--justdb", "--nodeps", "jackline-p3")
    assert told(root) == [one for one in expected() if one[0] != "jackline-p3"]


def test_hash_of_berkeley_db_is_read_and_damage_is_told(tmp_path: Path, built: list[Path]) -> None:
    root = as_berkeley_db(tmp_path, installed(tmp_path, built))
    assert told(root) == expected()
    database = root / "var/lib/rpm/Packages"
    whole = database.read_bytes()
    rng = random.Random(7)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        database.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
        try:
            told(root)
        except ValueError:
            continue
