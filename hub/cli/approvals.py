"""Who waits for somebody's word, and giving it: enrolled machines, and codes of `enroll --device`.

Rules: whoever approves is shown host, address and the key's fingerprint before, and asked.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from hub.cli import exits, output
from hub.cli.client import Client, confirm, segment
from hub.errors import CliError

_CODE = re.compile(
    r"[BCDFGHJKLMNPQRSTVWXZ]{4}-?[BCDFGHJKLMNPQRSTVWXZ]{4}", re.ASCII | re.IGNORECASE
)
PENDING = "/api/v1/enrolment/pending"


def is_code(text: str) -> bool:
    """Does a text look like a code that `jackline enroll --device` shows?"""
    return _CODE.fullmatch(text) is not None


def show_pending(client: Client, options: argparse.Namespace) -> None:
    """List the machines that wait."""
    found = list(client.items(PENDING))
    if output.wants_json(options):
        output.print_json(found)
        return
    head = ("NAME", "ADDRESS", "SYSTEM", "KEY", "SINCE", "ID")
    rows = [
        (one["name"], one["address"], one["platform"], one["key_fingerprint"], one["enrolled_at"],
         one["asset_id"])
        for one in found
    ]  # fmt: skip
    output.print_table(head, rows)


def approve_code(client: Client, code: str, *, is_sure: bool) -> None:
    """Show what a code would let in, ask, and let it in."""
    path = f"/api/v1/device/{segment(code)}"
    _show(client.get(path), "hostname")
    _ask(is_sure)
    client.post(f"{path}/approve")


def approve_machine(client: Client, asset_id: str, *, is_sure: bool) -> None:
    """Show a machine that waits, ask, and let it in."""
    waiting = [one for one in client.items(PENDING) if one["asset_id"] == asset_id]
    if waiting:
        _show(waiting[0], "name")
        _ask(is_sure)
    client.post(f"/api/v1/agents/{segment(asset_id)}/approve")


def _show(one: dict[str, Any], name: str) -> None:
    key = one.get("key_fingerprint") or one.get("key_thumbprint")
    for what, value in (
        ("host", one.get(name)),
        ("address", one.get("address")),
        ("system", one.get("platform")),
        ("key", key),
    ):
        if value:
            output.note(f"{what}: {value}")


def _ask(is_sure: bool) -> None:
    if not is_sure and not confirm("Let it in?"):
        raise CliError("not done; say --yes", exits.USAGE)
