"""What ships is what stands in the tree, and every word of the command line leads somewhere."""

from __future__ import annotations

import importlib
import tomllib

import pytest

from tests.facilities import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOUSES = ("agent", "hub", "wire", "workers")
COMMANDS = PROJECT["project"]["entry-points"]["jackline.commands"]
INTERNAL = PROJECT["project"]["entry-points"]["jackline.internal"]


def test_package_list_equals_the_tree() -> None:
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for house in HOUSES
        for file in (ROOT / house).rglob("*.py")
    }
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found)


@pytest.mark.parametrize("place", [*COMMANDS.values(), *INTERNAL.values()])
def test_entry_point_leads_to_a_function(place: str) -> None:
    module, _, name = place.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("place", [*COMMANDS.values()])
def test_command_has_a_line_in_the_help(place: str) -> None:
    doc = importlib.import_module(place.partition(":")[0]).__doc__
    assert doc and doc.strip().splitlines()[0].endswith((".", ":"))
