"""`jackline agents` against a real hub."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.doubles.hub_process import JACKLINE, HubProcess, running_hub


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub() as found:
        for name in ("web-1", "web-2", "db-1", "old-1"):
            found.add_agent(name)
        yield found


@pytest.fixture(scope="module")
def token(hub: HubProcess) -> str:
    return hub.token()


def agents(hub: HubProcess, token: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*JACKLINE, "agents", *words],
        env={**hub.env, "JACKLINE_HUB_URL": hub.url, "JACKLINE_TOKEN": token},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_machines_are_listed_found_and_sorted(hub: HubProcess, token: str) -> None:
    listed = agents(hub, token, "ls", "--search", "web", "--desc", "-o", "json")
    assert [one["name"] for one in json.loads(listed.stdout)] == ["web-2", "web-1"]
    assert "db-1" in agents(hub, token, "ls", "--presence", "offline").stdout
    assert agents(hub, token, "ls", "--sort", "colour").returncode == 2


def test_one_is_tagged_shown_revoked_and_forgotten(hub: HubProcess, token: str) -> None:
    assert agents(hub, token, "tag", "old-1", "eu", "big").returncode == 0
    tagged = agents(hub, token, "tag", "old-1", "--remove", "eu", "-o", "json")
    assert json.loads(tagged.stdout)["tags"] == ["big"]
    assert "big" in agents(hub, token, "show", "old-1").stdout
    assert agents(hub, token, "show", "nobody").returncode == 4
    assert agents(hub, token, "revoke", "old-1").returncode == 2
    assert agents(hub, token, "revoke", "old-1", "--yes").returncode == 0
    assert "revoked" in agents(hub, token, "show", "old-1").stdout
    assert agents(hub, token, "rm", "old-1", "--yes").returncode == 0
    assert agents(hub, token, "show", "old-1").returncode == 4


def test_a_conflict_that_is_none_cannot_be_resolved(hub: HubProcess, token: str) -> None:
    done = agents(hub, token, "resolve", "web-1")
    assert (done.returncode, "no_conflict" in done.stderr) == (5, True)
