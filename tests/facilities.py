"""What a test needs of the machine beside Python: asked for here, and nowhere else.

Rule: a program that can be installed skips its test on a laptop and fails it under CI=true. What
only another machine could give (a kernel feature, a right) always skips, and says which.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Root's programs are no secret: an ordinary user's PATH may lack them.
SUPERVISOR_42 = ROOT / ".venv-supervisor-4.2" / "bin"  # supervisor 4.2.5, no jackline beside it
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def require(program: str) -> str:
    """Return the path of an installed program, e.g. `require("rsync")`.

    It stands in packaging/system-programs.txt, too, so that `make test` installs it.
    """
    return shutil.which(program, path=SEARCH) or missing(f"{program} is not installed")


def require_path(path: Path, cure: str) -> Path:
    """Return `path` if it exists; `cure` says what would make it, e.g. `make node`."""
    return path if path.exists() else missing(f"{path} is missing: {cure}")


def require_root() -> None:
    """Skip for anybody but root: CI is root."""
    if os.geteuid() != 0:
        missing("root is needed")


def missing(sentence: str) -> NoReturn:
    """Fail in CI, skip elsewhere, for something that could have been installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI runs every test: {sentence}", pytrace=False)
    pytest.skip(sentence)


def only_if(condition: bool, sentence: str) -> None:
    """Skip, in CI too, where this very machine cannot: `only_if(kernel >= (5, 14), "...")`."""
    if not condition:
        pytest.skip(f"this machine: {sentence}")
