"""Find Node and the packages that `make node` fetched."""

from __future__ import annotations

from pathlib import Path

from tests import facilities


def node_program() -> str:
    """Return the path of a Node executable; skips or fails like every facility."""
    fetched_node = facilities.ROOT / ".node/bin/node"
    return str(fetched_node) if fetched_node.exists() else facilities.require("node")


def fetched(folder: Path) -> Path:
    """Return `folder` once its node_modules are there; skips or fails like every facility."""
    facilities.require_path(folder / "node_modules", "make node")
    return folder
