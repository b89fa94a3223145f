"""A hub in this process: its database, its services, and clients of its API."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub import keyring, settings
from hub.assembly import Hub
from hub.authorize import Role
from hub.db import migrate
from hub.db.database import Database
from hub.operators import credentials, passwords, service
from hub.operators.models import Tenant, User
from tests.doubles.hub_client import HubClient
from tests.doubles.postgres import PostgresServer, name_of

PASSWORD = "correct horse battery"
NO_KEYS = "http://127.0.0.1:1"  # nobody listens there, and no test asks anybody else


@pytest.fixture(scope="session")
def password_hash() -> str:
    """What the hub keeps of PASSWORD; hashing it again in each test would take seconds."""
    return passwords.hash_password(PASSWORD)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with this release's schema and no row."""
    file = tmp_path_factory.mktemp("template") / "hub.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a database with this release's schema and no row."""
    url = postgres.create()
    _migrate(url)
    return name_of(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a table: every test that asks runs on both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/hub.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with this release's schema: every test that asks runs on both kinds."""
    if request.param == "sqlite":
        yield sqlite_copy(request.getfixturevalue("sqlite_template"), tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create(request.getfixturevalue("postgres_template"))
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with this release's schema and no row."""
    opened = Database(database_url)
    yield opened
    opened.close()


def sqlite_copy(template: Path, folder: Path) -> str:
    """Put a copy of a database into a folder; returns its URL.

    For modules that no database matters to: they override `database_url` with it.
    """
    shutil.copy(template, folder / "hub.db")
    return f"sqlite:///{folder}/hub.db"


def _migrate(url: str) -> None:
    database = Database(url)
    try:
        migrate.upgrade(database)
    finally:
        database.close()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def hub(database: Database, state_dir: Path) -> Hub:
    """The services of a hub over an empty database; nothing of it runs yet."""
    found = settings.load(state_dir, {"database_url": database.url, "keys_base_url": NO_KEYS}, {})
    return Hub(found, keyring.create(state_dir), database)


@pytest.fixture
def api(hub: Hub) -> Iterator[HubClient]:
    """A client that is nobody, of a hub that runs in this process."""
    with HubClient(hub) as client:
        yield client


class People:
    """Makes tenants and users, and logs users in."""

    def __init__(self, database: Database, password_hash: str) -> None:
        self.database = database
        self._hash = password_hash

    def tenant(self, name: str) -> Tenant:
        return self.database.write_now(None, lambda session: service.add_tenant(session, name))

    def user(self, tenant: Tenant, name: str, role: Role) -> User:
        return self.database.write_now(
            None, lambda session: service.add_user(session, tenant.id, name, role, self._hash)
        )

    def token(self, user: User) -> str:
        """Return an API token with the user's own role."""
        return self.database.write_now(
            None, lambda session: credentials.issue(session, user, "token")[1]
        )

    def headers(self, user: User) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}"}


@pytest.fixture
def people(hub: Hub, password_hash: str) -> People:
    return People(hub.database, password_hash)


Headers = Callable[[str], dict[str, str]]


@pytest.fixture
def acme(people: People) -> Tenant:
    return people.tenant("acme")


@pytest.fixture
def as_role(people: People, acme: Tenant) -> Headers:
    """Headers of a user of `acme` with a role, made when first asked for."""
    made: dict[str, dict[str, str]] = {}

    def headers(role: str) -> dict[str, str]:
        if role not in made:
            made[role] = people.headers(people.user(acme, f"{role}.acme", Role(role)))
        return made[role]

    return headers
