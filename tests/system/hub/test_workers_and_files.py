"""Workers, directories and the log of a machine, through a real hub at a real agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit.models import AuditRow
from hub.authorize import Role
from tests.doubles.hub_site import HubSite, hub_site


@pytest.fixture(scope="module")
def site() -> Iterator[HubSite]:
    with hub_site() as made:
        yield made


def workers(site: HubSite, kind: str) -> list[dict[str, Any]]:
    status, body = site.hub.get(f"/api/v1/agents/{site.asset_id}/workers", site.token)
    assert status == 200, body
    return [row for row in body["items"] if row["kind"] == kind]


def test_a_worker_is_restarted_beside_a_live_shell(site: HubSite) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
        (before,) = site.hub.until(lambda: workers(site, "telemetry"))
        path = f"/api/v1/agents/{site.asset_id}/workers/{before['id']}/restart"
        assert site.hub.request("POST", path, site.token)[0] == 204
        site.hub.until(
            lambda: [
                row
                for row in workers(site, "telemetry")
                if row["pid"] not in (None, before["pid"]) and row["state"] == "RUNNING"
            ]
        )
        assert [row["job"] for row in workers(site, "shell")] == [session]
        console.type(session, "echo undis''turbed\n")
        console.until_output(session, "undisturbed\r\n")
        console.call("shell_close", session=session)
    actions = site.hub.read(lambda session: _outcomes(session, site.asset_id))
    assert ("workers.restart", "ok") in actions
    assert ("workers.restarted", "ok") in actions


def test_a_worker_that_is_none_is_told(site: HubSite) -> None:
    path = f"/api/v1/agents/{site.asset_id}/workers/no-such/restart"
    status, body = site.hub.request("POST", path, site.token)
    assert status == 409, body
    with site.console() as console:
        reply = console.call("worker_restart", asset_id=site.asset_id, worker_id="no-such")
        assert reply["error"]["code"] == body["code"]
        listed = console.call("worker_list", asset_id=site.asset_id)
        assert "telemetry" in [row["kind"] for row in listed["items"]]


def test_a_directory_is_listed_and_what_is_none_is_the_machines_own_error(
    site: HubSite, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "grüße.txt").write_bytes(b"x" * 1234)
    path = f"/api/v1/agents/{site.asset_id}/files"
    status, body = site.hub.get(f"{path}?path={tmp_path}", site.token)
    assert status == 200, body
    found = {entry["name"]: (entry["type"], entry["size"]) for entry in body["entries"]}
    assert found["grüße.txt"] == ("file", 1234)
    assert found["sub"][0] == "dir"
    status, body = site.hub.get(f"{path}?path={tmp_path}/gone", site.token)
    assert (status, body["error"], body["entries"]) == (200, "not_found", [])
    with site.console() as console:
        reply = console.call("dir_list", asset_id=site.asset_id, path=str(tmp_path))
        assert len(reply["entries"]) == 2


def test_an_auditor_looks_at_workers_and_at_nothing_on_the_disk(site: HubSite) -> None:
    token = site.user(Role.AUDITOR)
    path = f"/api/v1/agents/{site.asset_id}"
    assert site.hub.get(f"{path}/workers", token)[0] == 200
    assert site.hub.get(f"{path}/files?path=/", token)[0] == 403
    with site.console(token) as console:
        reply = console.call("log_tail_start", asset_id=site.asset_id)
        assert reply["error"]["code"] == "forbidden"


def test_the_agents_log_is_followed_until_it_is_stopped(site: HubSite) -> None:
    with site.console() as console:
        session = console.call("log_tail_start", asset_id=site.asset_id, lines=50)["session"]
        console.until_event("log_tail_output", session=session)
        shell = console.shell(site.asset_id)
        console.emit("shell_input", session=shell, data="kill -9 $PPID\n")
        console.until(
            lambda: "worker" in "".join(row["data"] for row in console.of("log_tail_output"))
        )
        console.until_event("shell_closed", session=shell)
        assert console.call("log_tail_stop", session=session) == {}


def test_a_machine_that_is_away_is_told_at_once_and_what_waits_is_ended(site: HubSite) -> None:
    with site.console() as console:
        session = console.call("log_tail_start", asset_id=site.asset_id)["session"]
        site.agent.terminate()
        console.until_event("log_tail_closed", session=session, reason="offline")
        status, body = site.hub.get(f"/api/v1/agents/{site.asset_id}/workers", site.token)
        assert (status, body["code"]) == (503, "agent_offline")
        site.agent.start()
        site.await_link()


def test_another_tenants_machine_is_not_found(site: HubSite) -> None:
    token = site.user(Role.TENANT_ADMIN, "elsewhere")
    path = f"/api/v1/agents/{site.asset_id}"
    assert site.hub.get(f"{path}/workers", token)[0] == 404
    assert site.hub.get(f"{path}/files?path=/", token)[0] == 404
    assert site.hub.request("POST", f"{path}/workers/x/restart", token)[0] == 404
    with site.console(token) as console:
        for event in ("worker_list", "log_tail_start"):
            reply = console.call(event, asset_id=site.asset_id)
            assert reply["error"]["code"] == "not_found"


def _outcomes(session: Session, asset_id: str) -> list[tuple[str, str]]:
    rows = session.scalars(select(AuditRow).where(AuditRow.object_id == asset_id))
    return [(row.action, row.outcome) for row in rows]
