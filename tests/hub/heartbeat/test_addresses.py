"""How the hub says that it is reached: what `serve` was told comes before what the settings say."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from hub import keyring, settings
from hub.heartbeat import authority
from hub.heartbeat.addresses import Addresses


def addresses(state_dir: Path, **flags: Any) -> Addresses:
    is_new = not (state_dir / keyring.FILE_NAME).exists()
    keys = keyring.create(state_dir) if is_new else keyring.load(state_dir)
    return Addresses(settings.load(state_dir, flags, {}), authority.load(state_dir, keys))


def test_command_line_names_the_port_that_the_hub_serves_on(state_dir: Path) -> None:
    serving, beside = addresses(state_dir, host="127.0.0.2", port=0), addresses(state_dir)
    assert beside.public == "http://127.0.0.1:8480"
    serving.note(18480)
    assert beside.public == "http://127.0.0.2:18480"
    serving.forget()
    assert beside.public == "http://127.0.0.1:8480"


def test_address_of_a_hub_that_was_killed_is_replaced_by_the_next(state_dir: Path) -> None:
    addresses(state_dir).note(1)
    addresses(state_dir).note(2)
    assert addresses(state_dir).public == "http://127.0.0.1:2"


@pytest.mark.parametrize(
    ("flags", "public", "agents"),
    [
        ({}, "http://127.0.0.1:8480", None),
        ({"host": "::1"}, "http://[::1]:8480", None),
        ({"tls_own_ca": True, "agents_port": 9}, "https://127.0.0.1:8480", "https://127.0.0.1:9"),
        ({"public_url": "https://hub.example/"}, "https://hub.example", None),
        (
            {"public_url": "https://hub.example:8", "agents_port": 9},
            "https://hub.example:8",
            "https://hub.example:9",
        ),
        (
            {"agents_url": "https://agents.example/"},
            "http://127.0.0.1:8480",
            "https://agents.example",
        ),
    ],
)
def test_settings_name_both_listeners(
    state_dir: Path, flags: dict[str, Any], public: str, agents: str | None
) -> None:
    found = addresses(state_dir, **flags)
    assert (found.public, found.agents_url) == (public, agents)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_hub_that_listens_everywhere_is_reached_by_the_machines_name(
    state_dir: Path, host: str
) -> None:
    found = addresses(state_dir, host=host, tls_own_ca=True, agents_port=9)
    name = socket.gethostname()
    assert found.public == f"https://{name}:8480"
    assert found.agents_url == f"https://{name}:9"
    assert name in found.names()
