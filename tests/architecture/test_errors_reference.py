"""docs/reference/errors.rst lists every error and every reason that a peer may be told."""

from __future__ import annotations

import ast
import re

import pytest

from tests.facilities import ROOT
from wire import reasons

PAGE = (ROOT / "docs" / "reference" / "errors.rst").read_text(encoding="utf-8")
HOUSES = ("agent", "hub", "wire", "workers")


def defined() -> set[str]:
    return {
        node.name
        for house in HOUSES
        for path in (ROOT / house).rglob("errors.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }


def literal_reasons() -> set[str]:
    """Return every reason that code writes down where it raises one of these."""
    calls = [
        node
        for house in ("agent", "workers")
        for path in (ROOT / house).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("LinkError", "SyncError", "FilesError")
    ]
    firsts = [call.args[0] for call in calls if call.args]
    return {str(arg.value) for arg in firsts if isinstance(arg, ast.Constant)}


def literal_codes() -> set[str]:
    """Return every code that the hub gives an error other than its class's own."""
    calls = [
        node
        for path in (ROOT / "hub").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error")
    ]
    given = [word.value for call in calls for word in call.keywords if word.arg == "code"]
    return {str(value.value) for value in given if isinstance(value, ast.Constant)}


def listed() -> dict[str, str]:
    """Return name -> its indented entry."""
    entries = re.findall(r"^``(\w+Error)``\n((?:[ ]+.*\n|\n(?=[ ]))+)", PAGE, re.MULTILINE)
    return dict(entries)


def test_page_lists_every_error_and_no_other() -> None:
    assert set(listed()) == defined()


@pytest.mark.parametrize("name", sorted(listed()))
def test_entry_has_cause_code_and_cure(name: str) -> None:
    for field in (":Cause:", ":Code:", ":Cure:"):
        assert re.search(rf"{field} \S", listed()[name]), f"{name} lacks {field}"


@pytest.mark.parametrize(
    "reason", [*reasons.Reason, *reasons.BusyDetail, *sorted(literal_reasons())]
)
def test_page_explains_every_reason(reason: str) -> None:
    assert f"``{reason}``" in PAGE


@pytest.mark.parametrize("code", sorted(literal_codes()))
def test_pages_explain_every_code_of_the_hub(code: str) -> None:
    http = (ROOT / "docs" / "reference" / "http.rst").read_text(encoding="utf-8")
    assert f"``{code}``" in PAGE + http
