"""Find Node and the packages that packaging/fetch-node.sh installed.

Rule: what is missing skips a test on a laptop and fails it in CI.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def node_program() -> str:
    """Return the path of a Node executable.

    Raises:
        pytest.skip.Exception: There is none, and this is not CI.
        RuntimeError: There is none, and this is CI.
    """
    beside = Path(sys.executable).parent / "node"
    found = shutil.which("node") or (str(beside) if beside.exists() else None)
    return found or _missing("Node is missing: run packaging/fetch-node.sh")


def fetched(folder: Path) -> Path:
    """Return `folder` once its node_modules are there; raises like node_program."""
    if not (folder / "node_modules").is_dir():
        _missing(f"{folder.name}/node_modules is missing: run packaging/fetch-node.sh")
    return folder


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("CI"):
        raise RuntimeError(sentence)
    pytest.skip(sentence)
