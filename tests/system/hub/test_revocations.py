"""How long a revoked user or agent keeps anything: the socket, the shells, the queued work.

Rules: half of the revocations are made through the API, half in the database beside the hub, as the
command line makes them. The promise is two seconds; what is asserted only detects *never*, what is
printed is the worst of each. Fault cases A, B.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Update, update

from hub.agents.models import Agent
from hub.authorize import Role
from hub.clock import now_ms
from hub.jobs.queue import WINDOW
from hub.operators.models import User
from tests.doubles import vitals
from tests.doubles.agent_process import running_agent
from tests.doubles.hub_site import HubSite, hub_site
from tests.doubles.operator_desk import Desk, asset_of, linked

NEVER_S = 20.0
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest) -> Iterator[HubSite]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").create()
    with hub_site(database_url=url) as made:
        yield made


class Worst:
    """The longest that each thing took, over all rounds."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def watch(self, since_s: float, gone: dict[str, Callable[[], bool]]) -> None:
        """Wait until everything is gone, each noticed on its own."""
        while gone:
            for name in [name for name, is_gone in gone.items() if is_gone()]:
                del gone[name]
                self._seconds[name] = max(self._seconds[name], time.monotonic() - since_s)
            assert time.monotonic() - since_s < NEVER_S, list(gone)
            time.sleep(0.01)

    def __str__(self) -> str:
        return ", ".join(f"{name} {worst:.2f} s" for name, worst in self._seconds.items())


@pytest.mark.family("hub")
def test_a_revoked_user_loses_socket_shells_and_queued_work(site: HubSite, soak: bool) -> None:
    rounds, worst = 20 if soak else 2, Worst()
    site.hub.add_agent("away")
    for round_ in range(rounds):
        revoke_a_user(site, f"leaver-{round_}-", worst, by_api=bool(round_ % 2))
    print(f"\n{rounds} users revoked, at worst: {worst}")


def revoke_a_user(site: HubSite, name: str, worst: Worst, *, by_api: bool) -> None:
    admin = Desk(site.hub, site.hub.token())
    desk = Desk(site.hub, site.hub.add_user(name, Role.OPERATOR))
    [user] = admin.ask("GET", f"/api/v1/users?q={name}")["items"]
    job = desk.run(asset_of(site.hub, "away"), "true")["id"]
    with site.console(desk.token) as console:
        session = console.shell(site.asset_id)
        since_s = time.monotonic()
        if by_api:
            admin.ask("PATCH", f"/api/v1/users/{user['id']}", {"disabled": True})
        else:
            change(site, update(User).where(User.name == name).values(disabled_ms=now_ms()))
        worst.watch(
            since_s,
            {
                "socket": lambda: not console.is_up,
                "typing": lambda: site.session(session)["state"] != "open",
                "shell": lambda: site.session(session)["state"] == "ended",
                "queued work": lambda: admin.job(job)["state"] == "cancelled",
            },
        )
    assert site.session(session)["reason"] == "operator_lost"
    assert admin.job(job)["error"] == "revoked"


@pytest.mark.family("hub")
def test_a_revoked_agent_loses_link_shells_and_queued_work(site: HubSite, soak: bool) -> None:
    rounds, worst = 20 if soak else 2, Worst()
    for round_ in range(rounds):
        revoke_an_agent(site, f"revoked-{round_}", worst, by_api=bool(round_ % 2))
    print(f"\n{rounds} agents revoked, at worst: {worst}")


def revoke_an_agent(site: HubSite, name: str, worst: Worst, *, by_api: bool) -> None:
    hub, admin = site.hub, Desk(site.hub, site.hub.token())
    config = {"clientId": name, "authToken": hub.add_agent(name)}
    asset_id = asset_of(hub, name)
    path = f"/api/v1/agents/{asset_id}"
    with running_agent(hub.url, config) as agent, site.console() as console:
        linked(agent)
        session = console.shell(asset_id)
        sent = [admin.run(asset_id, "sleep 600", timeout_sec=900)["id"] for _ in range(WINDOW)]
        queued = admin.run(asset_id, "true")["id"]
        hub.until(lambda: all(admin.job(one)["state"] != "queued" for one in sent))
        assert admin.job(queued)["state"] == "queued"
        marks = [f"JACKLINE_JOB={row['id']}." for row in agent.workers() if row["job"]]
        assert any(vitals.marked(mark) for mark in marks)
        since_s = time.monotonic()
        if by_api:
            admin.ask("POST", f"{path}/revoke", want=204)
        else:
            gone = update(Agent).where(Agent.client_id == name)
            change(site, gone.values(state="revoked", revoked_ms=now_ms()))
        worst.watch(
            since_s,
            {
                "link": lambda: not admin.ask("GET", path)["link"],
                "shell": lambda: site.session(session)["state"] == "ended",
                "queued work": lambda: admin.job(queued)["state"] == "cancelled",
                "the machine's processes": lambda: not any(vitals.marked(mark) for mark in marks),
            },
        )
    told = site.session(session)
    assert (told["reason"], told["detail"]) == ("unknown_outcome", "revoked")
    assert admin.job(queued)["error"] == "revoked"


def change(site: HubSite, statement: Update) -> None:
    """Change a row as another process does."""
    site.hub.write(lambda session: session.execute(statement))
