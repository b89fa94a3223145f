"""Builds the package: setuptools, once the console's third-party files are in place.

Rules: those files are never committed. They come from the npm registry by the committed lockfile
(`hub/console/assets`), no package's script runs, and only the files that its package.json names are
copied into the wheel. What is there already and newer than the lockfile is kept, so that a second
build needs no network. An endpoint has no console: `JACKLINE_CONSOLE=no` builds a wheel without
these files, and needs neither Node nor npm.
Source: PEP 517, "in-tree build backends".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the rest of the interface)

ROOT = Path(__file__).resolve().parent.parent.parent
ASSETS = ROOT / "hub" / "console" / "assets"
VENDOR = ROOT / "hub" / "console" / "static" / "vendor"
DONE = VENDOR / ".done"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):  # type: ignore[no-untyped-def]
    fetch()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):  # type: ignore[no-untyped-def]
    fetch()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def fetch() -> None:
    """Put the third-party files where the console serves them from."""
    lock = ASSETS / "package-lock.json"
    if os.environ.get("JACKLINE_CONSOLE") == "no":
        return
    if DONE.exists() and DONE.stat().st_mtime >= lock.stat().st_mtime:
        return
    subprocess.run(
        ["sh", str(ROOT / "packaging" / "fetch-node.sh"), str(lock.relative_to(ROOT))],
        check=True,
        env=os.environ | {"PYTHON": sys.executable},
        stdout=sys.stderr,
    )
    files = json.loads((ASSETS / "package.json").read_text(encoding="utf-8"))["vendor"]
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir(parents=True)
    for name, source in files.items():
        shutil.copyfile(ASSETS / "node_modules" / source, VENDOR / name)
    shutil.rmtree(ASSETS / "node_modules")
    DONE.touch()


if __name__ == "__main__":
    fetch()
