"""Whatever is searched, sorted or filtered for: no answer holds a row of another tenant.

Every route that reads is asked, with every parameter that it documents, over rows of two tenants in
every table (tests/hub/seeds.py); what is the other tenant's has its marker and its ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers, People, sqlite_copy
from tests.hub.seeds import Seeds

MARKER = "FOREIGN"
ROLES = ["auditor", "operator", "tenant_admin"]
HOSTILE = [
    MARKER, f"{MARKER}%", "%", "_", "*", "%%", "\\", "\\%", "'", "' OR 1=1 --", '"', ";", "(", "[",
    "name", "-name", "desc", "asc", "0", "1", "200", "-1", "9" * 40, "1e9", "true", "", " ", "é",
    "\u202e", "active", "online", "queued", "system", "2020-01-01T00:00:00Z",
]  # fmt: skip


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    return sqlite_copy(sqlite_template, tmp_path)


@pytest.fixture
def theirs(hub: Hub, people: People, acme: Tenant) -> Seeds:
    """Rows of another tenant in every table, beside rows of ours."""
    other = people.tenant("other")

    def seed(session: Session) -> Seeds:
        Seeds(session, acme.id, "OWN")
        return Seeds(session, other.id, MARKER)

    return hub.database.write_now(None, seed)


def readable(api: HubClient) -> dict[str, list[str]]:
    """Return every path that is read without an id in it, and its parameters."""
    return {
        path: [one["name"] for one in methods["get"].get("parameters", [])]
        for path, methods in api.app.openapi()["paths"].items()
        if "get" in methods and "{" not in path
    }


def test_no_answer_holds_a_row_of_another_tenant(
    api: HubClient, theirs: Seeds, as_role: Headers
) -> None:
    paths = readable(api)
    assert len(paths) > 10
    markers = [MARKER, *(str(one) for one in theirs.ids.values() if len(str(one)) == 36)]
    values = st.sampled_from([*HOSTILE, *markers])

    def ask(path: str, role: str, params: dict[str, Any]) -> None:
        reply = api.get(path, params=params, headers=as_role(role))
        assert reply.status_code < 500, (path, params, reply.text)
        said = "".join(map(str, params.values()))  # an answer may repeat what was asked
        leaked = [one for one in markers if one in reply.text and one not in said]
        assert not leaked, (path, params)

    for path in paths:
        for role in ROLES:
            ask(path, role, {})

    @settings(
        max_examples=150, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def searched(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(paths)))
        names = st.sampled_from(paths[path]) if paths[path] else st.just("q")
        params = data.draw(st.dictionaries(names, values, max_size=4))
        ask(path, data.draw(st.sampled_from(ROLES)), params)

    searched()


def test_the_rows_are_there_to_be_leaked(api: HubClient, theirs: Seeds, as_role: Headers) -> None:
    """Who may see every tenant is shown them: the test above could fail."""
    root = as_role("system_admin")
    for path in ("/api/v1/agents", "/api/v1/users", "/api/v1/jobs"):
        assert MARKER in api.get(path, headers=root).text
