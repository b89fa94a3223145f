"""The locks are whole, carry hashes, and name no place on the network."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.facilities import ROOT

PYTHON_LOCKS = [ROOT / "requirements.txt", *sorted((ROOT / "packaging" / "locks").glob("*.txt"))]
NODE_LOCKS = [
    path
    for folder in ("tests", "bench", "hub")
    for path in sorted((ROOT / folder).rglob("package-lock.json"))
    if "node_modules" not in path.parts
]


def locked(path: Path) -> dict[str, str]:
    """Return name -> the whole requirement, hashes left out."""
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    return {re.split(r"[=;\[ ]", entry)[0]: entry.split("--hash")[0].strip() for entry in entries}


@pytest.mark.parametrize("path", PYTHON_LOCKS, ids=lambda path: path.name)
def test_python_lock_pins_every_line_with_hashes(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        assert re.match(r"[a-z0-9._-]+==\S+ ", line), line
        assert "--hash=sha256:" in line


@pytest.mark.parametrize("path", [*PYTHON_LOCKS, *NODE_LOCKS], ids=lambda path: path.name)
def test_lock_names_no_registry(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"--(index-url|extra-index-url|find-links|trusted-host)", text)
    if path.suffix == ".txt":
        assert "://" not in text
    else:
        packages = json.loads(text)["packages"].values()
        assert not [package for package in packages if "resolved" in package]
        assert all("integrity" in package for package in list(packages)[1:])


def test_runtime_lock_holds_every_dependency_with_its_marker() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = locked(ROOT / "requirements.txt")
    for dependency in project["dependencies"]:
        name = re.split(r"[>=;\[]", dependency)[0].strip().lower()
        assert name in lock
        _, _, marker = dependency.partition(";")
        assert marker.strip() in lock[name]


def test_development_lock_agrees_with_the_runtime_lock() -> None:
    development = locked(ROOT / "packaging" / "locks" / "dev.txt")
    for name, requirement in locked(ROOT / "requirements.txt").items():
        # A marker may be wider there: another of its packages needs the same thing everywhere.
        assert development[name].partition(";")[0].strip() == requirement.partition(";")[0].strip()


def test_every_program_that_tests_ask_for_is_installed_by_make() -> None:
    lines = (ROOT / "packaging" / "system-programs.txt").read_text(encoding="utf-8").splitlines()
    known = {line.split()[0] for line in lines if line and not line.startswith("#")}
    asked = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != "facilities.py" and "node_modules" not in path.parts
        for name in re.findall(r'\brequire\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert asked - known - {"node"} == set()
