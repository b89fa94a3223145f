"""One hub, one real agent and one browser for the pages' tests; a person each test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.authorize import Role
from hub.operators import passwords, service
from tests.doubles.agent_process import JACKLINE, AgentProcess, running_agent
from tests.doubles.browser import WAIT_MS, Person, chromium
from tests.doubles.enrolled import EnrolledAgent
from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.key_server import KeyServer

expect.set_options(timeout=WAIT_MS)
PASSWORD = "a password of the tests"
OPERATOR, AUDITOR, ADMIN = "olga", "arne", "ada"
MACHINE = "box-1"
NewPerson = Callable[[str], Person]


@pytest.fixture(scope="session")
def key_server() -> Iterator[KeyServer]:
    with KeyServer() as found:
        yield found


@pytest.fixture(scope="session")
def hub(key_server: KeyServer) -> Iterator[HubProcess]:
    with running_hub(env={"JACKLINE_HUB_KEYS_BASE_URL": key_server.url}) as found:
        for name, role in (
            (OPERATOR, Role.OPERATOR),
            (AUDITOR, Role.AUDITOR),
            (ADMIN, Role.TENANT_ADMIN),
        ):
            add_person(found, name, role)
        yield found


def add_person(hub: HubProcess, name: str, role: Role) -> None:
    kept = passwords.hash_password(PASSWORD)

    def add(session: Session) -> None:
        tenant = service.find_tenant(session, service.DEFAULT_TENANT)
        assert tenant is not None
        service.add_user(session, tenant.id, name, role, kept)

    hub.write(add)


@pytest.fixture(scope="session")
def agent(hub: HubProcess) -> Iterator[AgentProcess]:
    config = {
        "clientId": MACHINE,
        "authToken": hub.add_agent(MACHINE),
        "statsIntervalSec": 2,
        "admin": {
            "enableShell": True,
            "allowedCommands": ["echo", "uname", "crontab"],
            "maxConcurrent": 64,
        },
    }
    with running_agent(hub.url, config) as found:
        found.until(lambda: found.ask("status")["link"]["state"] == "up")
        yield found


@pytest.fixture(scope="session")
def enrolled_id(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a machine that has enrolled and does not run."""
    folder = tmp_path_factory.mktemp("enrolled")
    done = hub.command("token", "create", "--quiet")
    assert done.returncode == 0, done.stderr
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)} | {
        f"JACKLINE_{name.upper()}_DIR": str(folder / name)
        for name in ("config", "state", "run", "log")
    }
    subprocess.run(
        [*JACKLINE, "enroll", "--hub", hub.url, "--token-stdin"],
        env=env,
        input=done.stdout,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: str = hub.read(
        lambda session: session.scalars(select(Asset.id).order_by(Asset.id.desc()).limit(1)).one()
    )
    return found


@pytest.fixture(scope="session")
def collector(hub: HubProcess) -> Iterator[EnrolledAgent]:
    """Return a machine that has enrolled and runs."""
    done = hub.command("token", "create", "--quiet")
    agent = EnrolledAgent(done.stdout, "--hub", hub.url, "--profile", "operator")
    try:
        agent.start()
        agent.until(lambda: agent.heartbeat["state"] == "up" and agent.link == "up")
        yield agent
    finally:
        agent.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


@pytest.fixture
def new_person(hub: HubProcess, browser: object) -> Iterator[NewPerson]:
    """Let somebody come in: `new_person(OPERATOR)` is logged in, with a browser of their own."""
    people: list[Person] = []

    def come(name: str) -> Person:
        person = Person(browser, hub.url)  # type: ignore[arg-type]
        people.append(person)
        person.log_in(name, PASSWORD)
        return person

    yield come
    for person in people:
        person.close()


@pytest.fixture
def asset_id(hub: HubProcess, agent: AgentProcess) -> str:
    """Return the machine that the agent runs on."""
    found: str = hub.read(
        lambda session: session.scalars(select(Asset.id).where(Asset.name == MACHINE)).one()
    )
    return found
