"""Figures for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.agents import service
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers, sqlite_copy


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    return sqlite_copy(sqlite_template, tmp_path)


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_requests_machines_and_links_are_counted_without_naming_any(
    api: HubClient, acme: Tenant, as_role: Headers
) -> None:
    asset = api.hub.database.write_now(
        None, lambda session: service.add_asset(session, acme.id, "secret-name")
    )
    for _ in range(3):
        api.get(f"/api/v1/agents/{asset.id}", headers=as_role("auditor"))
    api.get("/no/such/page")
    text = api.get("/metrics").text
    found = samples(text)
    counted = ("jackline_http_requests_total", "GET", "/api/v1/agents/{asset_id}", "200")
    assert found[counted] == 3
    assert found[("jackline_agents", "offline")] == 1
    assert found[("jackline_links",)] == 0
    for secret in (asset.id, "secret-name", acme.id, "acme", "/no/such"):
        assert secret not in text


def test_only_this_machine_and_system_admins_look(api: HubClient, as_role: Headers) -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert api.get("/metrics", headers=forwarded).status_code == 401
    assert api.get("/metrics", headers=as_role("tenant_admin") | forwarded).status_code == 403
    assert api.get("/metrics", headers=as_role("system_admin") | forwarded).status_code == 200
