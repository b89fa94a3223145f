"""Who may call what: every route and every event, asked by everybody, in both tenants.

The table is `matrix.csv`. A new route or a changed answer fails here; what was meant is written
down by `REWRITE_MATRIX=1 .venv/bin/pytest -n0 tests/hub/test_matrix.py`, and read in the review.

Cells: the HTTP status of a refusal, `in` for whoever is let in (whatever comes of an empty body),
`-` where there is no object that could be another tenant's. Own object / another tenant's.
"""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session

from hub import app as hub_app
from hub.assembly import Hub
from hub.audit import service as audit
from hub.authorize import ACTIONS, Principal, Role, authorize
from hub.console import routes as console_routes
from hub.errors import HubError
from hub.heartbeat import enrolment_tokens
from hub.heartbeat.enrolment_tokens import Wanted
from hub.operators.models import Tenant
from hub.requests import PUBLIC
from tests.doubles.hub_client import HubClient
from tests.doubles.simulated_agent import SimulatedAgent
from tests.hub.conftest import People, sqlite_copy
from tests.hub.seeds import Seeds
from wire import paths

FILE = Path(__file__).with_name("matrix.csv")
ROLES = [str(role) for role in Role]
CALLERS = ["anonymous", "agent", *ROLES]
NOBODY = "0190aaaa-0000-7000-8000-000000000000"
QUERIES = {
    paths.ARTIFACTS: {paths.QUERY_COMMAND_ID: NOBODY, paths.QUERY_NAME: "x"},
    "/api/v1/agents/{asset_id}/inventory/difference": {"before": NOBODY},
    "/api/v1/agents/{asset_id}/files": {"path": "/"},
}
HEADERS = {
    paths.ARTIFACTS: {"Content-Digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"}
}
BODIES = {
    "/api/v1/agents/{asset_id}/backup-schedules": {"schedules": []},
    "/api/v1/agents/{asset_id}/backups": {"source_dirs": ["/srv/x"], "dest_root": "/mnt/x"},
    "/api/v1/alerts/target": {"url": None},
    "/api/v1/agents/{asset_id}/admin": {"command": "true"},
    "/api/v1/agents/{asset_id}/cron": {"text": ""},
    "/api/v1/agents/{asset_id}/cron/diff": {"text": ""},
    "/api/v1/agents/{asset_id}/keys/preview": {"user": "octocat"},
    "/api/v1/agents/{asset_id}/keys/sync": {"user": "octocat"},
    "/api/v1/agents/{asset_id}/tags": {"tags": []},
}
FORMS = {
    "/agents/{asset_id}/backups": {"source_dirs": "/srv/x", "dest_root": "/mnt/x"},
    "/agents/{asset_id}/backups/schedules": {"plan_id": NOBODY, "cron": "1 1 1 1 1"},
    "/agents/{asset_id}/backups/schedules/remove": {"schedule_id": "x"},
    "/agents/{asset_id}/backups/{plan_id}/approve": {"version": "1"},
    "/agents/{asset_id}/run": {"command": "true"},
    "/users/{user_id}": {"act": "disable"},
}
ENDS_ITS_LOGIN = ("/api/v1/sessions/current", "/logout")
REFUSALS = (303, 401, 403, 404, 429)
# Which table an id in a path is of; `user_code` and what a console page calls so, too.
TABLES = {
    "asset_id": "assets",
    "agent_id": "assets",
    "user_id": "users",
    "tenant_id": "tenants",
    "login_id": "logins",
    "job_id": "jobs",
    "batch_id": "jobs",
    "alert_id": "alerts",
    "command_id": "commands",
    "artifact_id": "artifacts",
    "session_id": "shell_sessions",
}
TABLES_BY_PATH = {
    "/api/v1/tokens/{token_id}": "logins",
    "/api/v1/enrolment/tokens/{token_id}": "enrolment_tokens",
    "/api/v1/agents/{asset_id}/cron/history/{version_id}": "crontabs",
    "/enrolment/tokens/{token_id}/arrived": "enrolment_tokens",
    "/enrolment/tokens/{token_id}/revoke": "enrolment_tokens",
}


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    return sqlite_copy(sqlite_template, tmp_path)


def routes() -> list[APIRoute]:
    """Return every route of the application; a mount has none that anybody could forget."""
    routers = [*hub_app.routers(), *console_routes.routers()]
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def actions_of(route: APIRoute) -> list[str]:
    """Return what a route declares, by its dependencies and theirs."""
    found, waiting = [], [route.dependant]
    while waiting:
        one = waiting.pop()
        waiting += one.dependencies
        action = getattr(one.call, "action", None)
        if action is not None:
            found.append(action)
    return found


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{min(route.methods)} {route.path}")
def test_every_route_declares_one_action(route: APIRoute) -> None:
    declared = actions_of(route)
    assert len(declared) == 1, declared
    assert declared[0] in (*ACTIONS, PUBLIC)


def test_no_route_is_left_out(api: HubClient) -> None:
    listed = {route.path for route in routes()}
    assert set(api.app.openapi()["paths"]) <= listed
    mounts = {getattr(route, "path", None) for route in api.app.routes} - {None}
    assert mounts == {"/openapi.json", "/static"}  # sockets are met before any route


class Probe:
    """Asks every route as everybody."""

    def __init__(self, api: HubClient, people: People, tenant: Tenant, other: Seeds) -> None:
        self.api = api
        self.people = people
        self.other = other
        self.bodies: dict[str, Any] = {}
        self.users = {role: people.user(tenant, f"{role}.acme", Role(role)) for role in ROLES}
        self.headers: dict[str, dict[str, str]] = {"anonymous": {}}
        for role in ROLES:
            self.renew(role)

    def renew(self, caller: str) -> None:
        """Log a role's user in."""
        if caller in self.users:
            self.headers[caller] = self.people.headers(self.users[caller])

    def cell(self, method: str, route: APIRoute, caller: str) -> str:
        own = self._told(method, route, caller, self._path(route, None))
        if own != "in" or self._table(route) is None:
            return f"{own}/-" if self._table(route) is None else f"{own}/{own}"
        if caller == "system_admin":
            return "in/in"
        return f"in/{self._told(method, route, caller, self._path(route, self.other))}"

    def _told(self, method: str, route: APIRoute, caller: str, path: str) -> str:
        how: dict[str, Any] = {"params": QUERIES.get(route.path)}
        if route.path in FORMS:
            how["data"] = FORMS[route.path]
        elif method != "GET":
            how["json"] = self.bodies.get(route.path, {})
        headers = self.headers[caller] | HEADERS.get(route.path, {})
        reply = self.api.request(method, path, headers=headers, **how)
        if route.path in ENDS_ITS_LOGIN:
            self.renew(caller)
        assert reply.status_code < 500, (method, path, caller, reply.text)

        if reply.status_code == 404:
            return "in" if NOBODY in path else "404"
        return str(reply.status_code) if reply.status_code in REFUSALS else "in"

    def _table(self, route: APIRoute) -> str | None:
        if route.path in TABLES_BY_PATH:
            return TABLES_BY_PATH[route.path]
        names = re.findall(r"{(\w+)(?::\w+)?}", route.path)
        return next((TABLES[name] for name in names if name in TABLES), None)

    def _path(self, route: APIRoute, seeds: Seeds | None) -> str:
        """Fill a path: with another tenant's ids, or with ids of nobody to harm none of ours."""
        table = self._table(route)
        filler = NOBODY if seeds is None else str(seeds.ids.get(table or "") or NOBODY)
        return re.sub(r"{\w+(:\w+)?}", filler, route.path)


@pytest.fixture
def probe(api: HubClient, hub: Hub, people: People, acme: Tenant) -> Probe:
    other = people.tenant("other")
    agent = _enrolled(api, hub, acme)

    def seed(session: Session) -> Seeds:
        return Seeds(session, other.id, "FOREIGN")

    made = Probe(api, people, acme, hub.database.write_now(None, seed))
    made.headers["agent"] = agent.headers
    made.bodies = BODIES | {
        paths.HEARTBEAT: agent.beat(),
        paths.RENEW: {"csr": agent.csr()},
        paths.UNENROLL: {"agent_id": "nobody"},
    }
    return made


def _enrolled(api: HubClient, hub: Hub, tenant: Tenant) -> SimulatedAgent:
    agent = SimulatedAgent()
    _, token = hub.database.write_now(
        None,
        lambda session: enrolment_tokens.make(session, audit.SYSTEM, tenant.id, Wanted()),
    )
    agent.believe(api.post("/api/v1/agents/enroll", json=agent.request(token)).content)
    return agent


def test_everybody_is_told_what_the_table_says(probe: Probe, hub: Hub) -> None:
    rows = [
        [method, route.path, *actions_of(route)]
        + [probe.cell(method, route, caller) for caller in CALLERS]
        for route in routes()
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]
    rows += [
        ["EVENT", event, action, *(event_cell(action, caller) for caller in CALLERS)]
        for event, action in hub.console.events.items()
    ]
    text = written(sorted(rows))
    if os.environ.get("REWRITE_MATRIX"):
        FILE.write_text(text, encoding="utf-8")
    assert FILE.read_text(encoding="utf-8").splitlines() == text.splitlines()


def event_cell(action: str, caller: str) -> str:
    """Ask as the console's namespace does, which an agent or nobody cannot even join."""
    if caller in ("anonymous", "agent"):
        return "401/-"
    try:
        authorize(Principal("user", "u", "u", "t", Role(caller)), action)
    except HubError as error:
        return f"{error.status}/-"
    return "in/-"


def written(rows: list[list[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "path", "action", *CALLERS])
    writer.writerows(rows)
    return out.getvalue()
