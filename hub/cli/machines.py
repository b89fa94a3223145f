"""A machine by what a person calls it: its id, its name, or its client id."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from hub.cli import exits
from hub.cli.client import Client, segment
from hub.errors import CliError


def find(client: Client, called: str) -> str:
    """Return a machine's id; whether an id is a machine's, the next request tells.

    Raises:
        CliError: nothing is called so, or several are.
    """
    if _is_id(called):
        return called
    rows = client.items("/api/v1/agents", q=called)
    found = [row for row in rows if called in (row["name"], row["client_id"])]
    if not found:
        raise CliError(f"there is no machine called {called}", exits.NOT_FOUND)
    if len(found) > 1:
        ids = ", ".join(row["asset_id"] for row in found)
        raise CliError(f"several machines are called {called}: {ids}", exits.USAGE)
    return str(found[0]["asset_id"])


def names(client: Client, ids: Iterable[str]) -> dict[str, str]:
    """Return what machines are called, by their ids; one that was forgotten keeps its id."""
    return {one: _name(client, one) for one in set(ids)}


def _name(client: Client, asset_id: str) -> str:
    try:
        return str(client.get(f"/api/v1/agents/{segment(asset_id)}")["name"])
    except CliError as error:
        if error.exit_code != exits.NOT_FOUND:
            raise
        return asset_id


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
