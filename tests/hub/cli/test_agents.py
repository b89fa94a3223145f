"""`jackline agents revoke` against a real hub in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from hub.assembly import Hub
from hub.audit import service as audit
from hub.cli import agents, exits
from hub.heartbeat import enrolment_tokens
from hub.heartbeat.enrolment_tokens import Wanted
from hub.operators.models import Tenant
from tests.doubles.beating import beat, enrolled
from tests.doubles.hub_client import URL, HubClient
from tests.doubles.simulated_agent import SimulatedAgent
from tests.hub.conftest import Headers, sqlite_copy


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    return sqlite_copy(sqlite_template, tmp_path)


@pytest.fixture(autouse=True)
def admin(
    api: HubClient, as_role: Headers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Commands reach the hub of this process, as an administrator."""

    def send(session: requests.Session, method: str, url: str, **how: Any) -> requests.Response:
        headers = {**session.headers, **(how["headers"] or {})}
        reply = api.request(method, url, params=how["params"], json=how["json"], headers=headers)
        made = requests.Response()
        made.status_code, made._content = reply.status_code, reply.content
        return made

    monkeypatch.setattr(requests.Session, "request", send)
    monkeypatch.setenv("JACKLINE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JACKLINE_HUB_URL", URL)
    monkeypatch.setenv("JACKLINE_TOKEN", as_role("tenant_admin")["Authorization"].split()[1])


def test_who_waits_is_turned_away_without_the_present_credential(
    hub: Hub, api: HubClient, acme: Tenant
) -> None:
    def token(*, needs_approval: bool) -> str:
        wanted = Wanted(needs_approval=needs_approval)
        return hub.database.write_now(
            None, lambda session: enrolment_tokens.make(session, audit.SYSTEM, acme.id, wanted)[1]
        )

    first = enrolled(api, token(needs_approval=False))
    second = SimulatedAgent("web-1", first.machine_id)
    enrolled(api, token(needs_approval=True), second)
    assert second.me.asset_id == first.me.asset_id
    assert agents.run(["revoke", "web-1", "--waiting"]) == exits.OK
    assert beat(api, second).json()["code"] == "agent_revoked"
    assert beat(api, first).status_code == 200
    assert agents.run(["revoke", "web-1", "--waiting"]) == exits.NOT_FOUND
    assert agents.run(["revoke", "web-1", "--yes"]) == exits.OK
    assert beat(api, first).json()["code"] == "agent_revoked"
