"""Rules of the house that no linter knows: sizes, names, where an error may be defined."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.facilities import ROOT

HOUSES = ("agent", "hub", "wire", "workers")
MODULES = sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py"))
GRAB_BAGS = {"utils", "util", "common", "helpers", "misc", "base", "core", "manager"}
# Loaded by supervisorctl's own interpreter, which has no jackline: it may import nothing of ours.
ALONE = "agent/supervisor/ctlplugin.py"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def classes(path: Path) -> Iterator[ast.ClassDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def test_modules_stay_under_400_lines() -> None:
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_module_is_a_grab_bag() -> None:
    parts = {name_of(path): set(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}
    assert {name: found for name, found in parts.items() if GRAB_BAGS & found} == {}


def test_error_classes_are_named_so_and_stand_in_errors() -> None:
    faults = []
    for path in MODULES:
        for node in classes(path):
            bases = [ast.unparse(base) for base in node.bases]
            if any(base.endswith(("Error", "Exception")) for base in bases):
                is_at_home = path.name == "errors.py" or name_of(path) == ALONE
                if not (is_at_home and node.name.endswith("Error")):
                    faults.append(f"{name_of(path)}: {node.name}")
    assert faults == []


def test_platform_pairs_stand_beside_a_neutral_module() -> None:
    names = {path.with_suffix("") for path in MODULES}
    for path in sorted(names):
        neutral = path.with_name(path.name.removesuffix("_posix"))
        if neutral != path and path.with_name(f"{neutral.name}_windows") in names:
            assert neutral in names, f"{path.name} and its twin have no {neutral.name} beside them"


def test_no_registry_or_private_path_is_committed() -> None:
    # Written in two halves, so that this file is no hit of its own.
    forbidden = ["registry." + "npmjs", "files.python" + "hosted", "pypi.org/" + "simple"]
    pattern = [argument for text in forbidden for argument in ("-e", text)]
    done = subprocess.run(
        ["git", "grep", "-nIF", *pattern], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_node_modules_are_not_committed() -> None:
    done = subprocess.run(
        ["git", "ls-files", "--", "*node_modules*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
