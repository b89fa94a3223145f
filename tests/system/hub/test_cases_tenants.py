"""Every event of the console with another tenant's machine, job and session in it.

Fault cases B: what another tenant has is answered like what nobody has, and nothing comes of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.authorize import Role
from tests.doubles.console_socket import ConsoleSocket
from tests.doubles.hub_site import HubSite, hub_site

MATRIX = Path(__file__).parents[2] / "hub" / "matrix.csv"
NOBODY = "0190aaaa-0000-7000-8000-000000000000"
# Which object an event names, and what else it carries.
ASSET, JOB, SESSION, TOPIC = "asset_id", "job_id", "session", "topic"
EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "admin_start": (ASSET, {"request": {"command": "true"}}),
    "admin_watch": (JOB, {}),
    "admin_unwatch": (JOB, {}),
    "admin_taken": (JOB, {"bytes": 100}),
    "worker_list": (ASSET, {}),
    "worker_restart": (ASSET, {"worker_id": "telemetry-1"}),
    "shell_open": (ASSET, {}),
    "shell_attach": (SESSION, {"take_over": True}),
    "shell_observe": (SESSION, {}),
    "shell_input": (SESSION, {"data": "exit 9\n"}),
    "shell_resize": (SESSION, {"cols": 10, "rows": 10}),
    "shell_ack": (SESSION, {"offset": 10}),
    "shell_detach": (SESSION, {}),
    "shell_close": (SESSION, {}),
    "dir_list": (ASSET, {"path": "/"}),
    "log_tail_start": (ASSET, {}),
    "log_tail_stop": (SESSION, {}),
    "watch": (TOPIC, {}),
    "unwatch": (TOPIC, {}),
}


class Owned:
    """What one tenant has: a linked machine, a shell in which its operator is, a command."""

    def __init__(self, site: HubSite, desk: ConsoleSocket) -> None:
        self.site, self.desk = site, desk
        self.session = desk.shell(site.asset_id)
        path = f"/api/v1/agents/{site.asset_id}/admin"
        status, job = site.hub.request("POST", path, site.token, {"command": "sleep 600"})
        assert status == 201, job
        self.job = str(job["id"])
        self.ids = {
            ASSET: site.asset_id,
            JOB: self.job,
            SESSION: self.session,
            TOPIC: f"agent:{site.asset_id}",
        }


@pytest.fixture(scope="module")
def owned() -> Iterator[Owned]:
    with hub_site() as site, site.console() as desk:
        yield Owned(site, desk)


def test_every_event_is_in_the_table() -> None:
    with MATRIX.open(newline="") as file:
        listed = {row["path"] for row in csv.DictReader(file) if row["method"] == "EVENT"}
    assert listed == EVENTS.keys()


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.OPERATOR, Role.TENANT_ADMIN])
def test_what_another_tenant_has_is_as_unknown_as_what_nobody_has(owned: Owned, role: Role) -> None:
    site = owned.site
    seen = len(site.hub.get("/api/v1/jobs", site.token)[1]["items"])
    with site.console(site.user(role, "other")) as stranger:
        for event, (name, more) in EVENTS.items():
            theirs = stranger.call(event, **{name: owned.ids[name]}, **more)
            nobodys = stranger.call(event, **{name: NOBODY}, **more)
            assert theirs == nobodys, (event, theirs, nobodys)
            if name == ASSET:
                assert theirs["error"]["code"] in ("not_found", "forbidden"), (event, theirs)
        stranger.call("watch", topic=f"agent:{site.asset_id}")
        owned.desk.type(owned.session, "echo still-$((6*7))\n")
        owned.desk.until_output(owned.session, "still-42\r\n")
        assert site.session(owned.session)["state"] == "open"
        _, job = site.hub.get(f"/api/v1/jobs/{owned.job}", site.token)
        assert job["state"] in ("sent", "running") and job["cancel_requested_at"] is None
        assert len(site.hub.get("/api/v1/jobs", site.token)[1]["items"]) == seen
        assert {event for event, _ in stranger.events} <= {"welcome"}
