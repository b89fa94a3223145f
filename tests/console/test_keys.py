"""Key sync: every key is shown before it is added, and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.conftest import AUDITOR, OPERATOR, NewPerson
from tests.doubles import sandbox
from tests.doubles.agent_process import running_agent
from tests.doubles.hub_process import HubProcess
from tests.doubles.key_server import KeyServer
from tests.doubles.operator_desk import asset_of, linked
from tests.doubles.public_keys import ed25519


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def homed_id(hub: HubProcess, key_server: KeyServer, home: Path) -> Iterator[str]:
    """Return a machine whose account has its home in the test's folder."""
    name = f"home-of-{home.parent.name}"
    config = {
        "clientId": name,
        "authToken": hub.add_agent(name),
        "admin": {"allowedCommands": ["cat .ssh/authorized_keys"]},
        "keys": {"baseUrl": key_server.url},
    }
    with running_agent(hub.url, config, prefix=sandbox.at_home(home)) as agent:
        linked(agent)
        yield asset_of(hub, name)


def test_keys_are_shown_then_added(
    new_person: NewPerson, homed_id: str, key_server: KeyServer, home: Path
) -> None:
    authorized = home / ".ssh" / "authorized_keys"
    authorized.parent.mkdir(mode=0o700)
    authorized.write_text(f"{ed25519('known')} me\n")
    authorized.chmod(0o600)
    known = authorized.read_text()
    key_server.body = f"{ed25519('known')}\n{ed25519('new')}\n".encode()
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{homed_id}/keys")
    page.get_by_label("GitHub user").fill("octocat")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("heading", name="Keys of octocat")).to_be_visible()
    expect(page.get_by_text("is there already")).to_have_count(1)
    expect(page.get_by_text("is added", exact=True)).to_have_count(1)
    assert authorized.read_text() == known
    person.screenshots("keys")
    page.get_by_role("button", name="Sync these keys").click()
    expect(page.get_by_text("1 key was added for octocat")).to_be_visible()
    assert ed25519("new") in authorized.read_text()
    assert authorized.read_text().startswith(known)


def test_a_user_that_is_none_is_said(new_person: NewPerson, homed_id: str) -> None:
    page = new_person(OPERATOR).show(f"/agents/{homed_id}/keys")
    page.get_by_label("GitHub user").fill("-x-")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("alert")).to_be_visible()


def test_an_auditor_sees_keys_and_can_press_nothing(new_person: NewPerson, asset_id: str) -> None:
    page = new_person(AUDITOR).show(f"/agents/{asset_id}/keys")
    expect(page.get_by_role("button", name="Show what would change")).to_be_disabled()
