"""A hub that is killed while it lets a machine in, on both databases: all of it or nothing.

Fault cases A; `make soak FAMILY=enrolment` kills more often.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent import exits
from hub.agents.models import Agent
from hub.heartbeat.models import Enrolment, EnrolmentToken
from tests.doubles.cutting_proxy import CuttingProxy
from tests.doubles.enrolled import EnrolledAgent
from tests.doubles.hub_process import HubProcess, running_hub

DEADLINE_S = 120


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hub(request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").create()
    with running_hub(url) as hub:
        yield hub


class Arriving:
    """A machine on its way in through a relay, as somebody tries it until it works."""

    def __init__(self, hub: HubProcess, proxy: CuttingProxy) -> None:
        self.machine = EnrolledAgent(None)
        self._token = token_of(hub)
        self._words = ("--token-stdin", "--hub", f"http://127.0.0.1:{proxy.port}")
        self._code: int | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def arrived(self) -> EnrolledAgent:
        self._thread.join(DEADLINE_S)
        assert self._code == 0
        return self.machine

    def close(self) -> None:
        self.machine.close()

    def _run(self) -> None:
        while self._code in (None, exits.UNAVAILABLE):
            self._code = self.machine.enroll(*self._words, stdin=self._token).returncode


def token_of(hub: HubProcess) -> str:
    done = hub.command("token", "create", "--quiet")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def tables(hub: HubProcess) -> tuple[int, int, int]:
    """Return how often tokens were burnt, and how many agents and enrolments there are."""

    def count(session: Session) -> tuple[Any, ...]:
        queries = (
            select(func.coalesce(func.sum(EnrolmentToken.uses), 0)),
            select(func.count()).select_from(Agent),
            select(func.count()).select_from(Enrolment),
        )
        return tuple(session.scalar(query) for query in queries)

    found: tuple[int, int, int] = hub.read(count)
    return found


def one_more(before: tuple[int, int, int]) -> tuple[int, int, int]:
    burnt, agents, enrolments = before
    return burnt + 1, agents + 1, enrolments + 1


@contextlib.contextmanager
def nobody_writes(hub: HubProcess) -> Iterator[None]:
    """Keep everybody from burning a token until the end."""
    url = hub.env.get("JACKLINE_HUB_DATABASE_URL")
    if url is None:
        with closing(sqlite3.connect(hub.state_dir / "hub.db", timeout=30)) as link:
            link.isolation_level = None
            link.execute("BEGIN IMMEDIATE")
            yield
            link.rollback()
        return
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE enrolment_tokens IN EXCLUSIVE MODE")
        yield
        connection.rollback()


def works(hub: HubProcess, machine: EnrolledAgent) -> None:
    """The machine is who the hub says it is, and is heard."""
    known = machine.identity
    status, told = hub.get(f"/api/v1/agents/{known['asset_id']}", hub.token())
    assert (status, told["client_id"]) == (200, known["agent_id"])
    machine.start()
    machine.until(lambda: machine.heartbeat["state"] == "up", DEADLINE_S)


@pytest.mark.family("enrolment")
@pytest.mark.timeout(900)
def test_killed_between_burn_and_reply_it_gives_the_same_identity_again(
    hub: HubProcess, soak: bool
) -> None:
    """The token is burnt in the database, and the machine never heard of it."""
    for _ in range(5 if soak else 1):
        killed = threading.Event()

        def kill(killed: threading.Event = killed) -> None:
            hub.kill()
            killed.set()

        before = tables(hub)
        with CuttingProxy(hub.port, 1, kill) as proxy, closing(Arriving(hub, proxy)) as one:
            one.start()
            assert killed.wait(DEADLINE_S)
            assert tables(hub) == one_more(before)
            hub.start()
            works(hub, one.arrived())
        assert tables(hub) == one_more(before)


@pytest.mark.family("enrolment")
@pytest.mark.timeout(900)
def test_killed_before_the_burn_it_has_done_nothing(hub: HubProcess, soak: bool) -> None:
    for _ in range(5 if soak else 1):
        before = tables(hub)
        with CuttingProxy(hub.port, 0) as proxy, closing(Arriving(hub, proxy)) as one:
            with nobody_writes(hub):
                one.start()
                assert proxy.forwarded.wait(DEADLINE_S)
                hub.kill()
            assert tables(hub) == before
            hub.start()
            works(hub, one.arrived())
        assert tables(hub) == one_more(before)
