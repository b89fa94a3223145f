"""`jackline tokens` and `jackline login` against a real hub in this process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import requests

from hub.authorize import Role
from hub.cli import exits, login, tokens
from hub.operators.models import Tenant
from tests.doubles.hub_client import URL, HubClient
from tests.hub.conftest import PASSWORD, Headers, People, sqlite_copy


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    return sqlite_copy(sqlite_template, tmp_path)


@pytest.fixture(autouse=True)
def operator(
    api: HubClient, as_role: Headers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Commands reach the hub of this process, as an operator."""

    def send(session: requests.Session, method: str, url: str, **how: Any) -> requests.Response:
        headers = {**session.headers, **(how["headers"] or {})}
        reply = api.request(method, url, params=how["params"], json=how["json"], headers=headers)
        made = requests.Response()
        made.status_code, made._content = reply.status_code, reply.content
        return made

    monkeypatch.setattr(requests.Session, "request", send)
    monkeypatch.setenv("JACKLINE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JACKLINE_HUB_URL", URL)
    monkeypatch.setenv("JACKLINE_TOKEN", as_role("operator")["Authorization"].split()[1])


def test_a_token_is_made_listed_and_revoked(
    api: HubClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokens.run(["create", "ci", "--role", "auditor", "--quiet"]) == exits.OK
    token = capsys.readouterr().out.strip()
    mine = {"Authorization": f"Bearer {token}"}
    assert api.get("/api/v1/me", headers=mine).json()["role"] == "auditor"
    assert tokens.run(["ls", "--json"]) == exits.OK
    listed = json.loads(capsys.readouterr().out)
    made = next(one for one in listed if one["label"] == "ci")
    assert tokens.run(["revoke", made["id"]]) == exits.OK
    assert api.get("/api/v1/me", headers=mine).status_code == 401
    assert tokens.run(["revoke", made["id"]]) == exits.NOT_FOUND


def test_a_role_above_ones_own_is_not_permitted(capsys: pytest.CaptureFixture[str]) -> None:
    assert tokens.run(["create", "x", "--role", "system_admin"]) == exits.NOT_PERMITTED
    assert "role_too_high" in capsys.readouterr().err


def test_a_log_in_with_a_password_is_kept_and_used(
    people: People,
    acme: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    people.user(acme, "ann", Role.OPERATOR)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    monkeypatch.delenv("JACKLINE_TOKEN")
    assert tokens.run(["ls"]) == exits.NOT_PERMITTED
    log_in = ["--hub", URL, "--user", "ann", "--password-stdin"]
    assert login.run(log_in) == exits.OK
    assert tokens.run(["ls", "-o", "json"]) == exits.OK
    assert json.loads(capsys.readouterr().out) == []
