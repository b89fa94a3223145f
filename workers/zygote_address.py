"""Where a version's zygote listens; beside `zygote`, which the agent must not import."""

from __future__ import annotations


def address_of(run_dir: str, version: str) -> str:
    """Return the socket's path: an upgrade starts a second zygote beside the first."""
    return f"{run_dir}/zygote-{version}.sock"
