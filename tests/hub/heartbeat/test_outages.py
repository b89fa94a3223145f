"""A hub whose database is full or away: nothing is answered that is not stored. Fault cases C."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.db import migrate
from hub.db.database import Database
from tests.doubles.beating import Roles, Tokens, beat, enrolled
from tests.doubles.hub_client import HubClient
from tests.doubles.postgres import PostgresServer
from tests.doubles.simulated_agent import SimulatedAgent, result
from tests.hub.conftest import sqlite_copy
from tests.hub.heartbeat.test_commands import asked, offers, show

LARGE = {"text": "x" * 15_000}


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of its own: it is stopped, and others need theirs."""
    one = PostgresServer()
    yield one
    one.close()


class OnSqlite:
    @pytest.fixture
    def database_url(self, sqlite_template: Path, tmp_path: Path) -> str:
        return sqlite_copy(sqlite_template, tmp_path)


class OnPostgres:
    @pytest.fixture
    def database_url(self, server: PostgresServer) -> str:
        url = server.create()
        database = Database(url)
        try:
            migrate.upgrade(database)
        finally:
            database.close()
        return url


def pages_of(hub: Hub, pages: int | None) -> None:
    """Let the database have so many pages more and none besides; None: as many as it likes."""

    def limit(session: Session) -> None:  # in the writer's own connection
        count = session.execute(text("PRAGMA page_count")).scalar_one()
        most = 1_000_000 if pages is None else count + pages
        session.execute(text(f"PRAGMA max_page_count={most}"))

    hub.database.write_now(None, limit)


class TestFull(OnSqlite):
    def test_full_disk_takes_nothing_and_says_so_until_there_is_room(
        self, hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
    ) -> None:
        operator = as_role("operator")
        made = [asked(api, operator, agent, key=f"k{n}") for n in range(20)]
        assert offers(beat(api, agent)) == made
        done = [result(one, "completed", result_summary=LARGE) for one in made]
        pages_of(hub, 0)
        full = beat(api, agent, command_results=done)
        assert (full.status_code, full.json()["code"]) == (507, "no_space")
        assert int(full.headers["retry-after"]) > 0
        assert {show(api, operator, one)["state"] for one in made} == {"accepted"}
        pages_of(hub, None)
        assert beat(api, agent, command_results=done).status_code == 200
        assert {show(api, operator, one)["state"] for one in made} == {"completed"}


class TestAway(OnPostgres):
    def test_database_that_is_away_is_waited_for_and_loses_nothing(
        self, server: PostgresServer, api: HubClient, agent: SimulatedAgent, as_role: Roles
    ) -> None:
        operator = as_role("operator")
        command_id = asked(api, operator, agent)
        assert offers(beat(api, agent)) == [command_id]
        done = [result(command_id, "completed")]
        server.stop()
        away = beat(api, agent, command_results=done)
        assert (away.status_code, away.json()["code"]) == (503, "unavailable")
        assert int(away.headers["retry-after"]) > 0
        server.start_again()
        assert beat(api, agent, command_results=done).status_code == 200
        assert show(api, operator, command_id)["state"] == "completed"

    def test_enrolment_that_meets_no_database_burns_nothing(
        self, server: PostgresServer, api: HubClient, token: Tokens
    ) -> None:
        text_, agent = token(), SimulatedAgent()
        server.stop()
        reply = api.post("/api/v1/agents/enroll", json=agent.request(text_))
        assert reply.status_code == 503
        server.start_again()
        assert enrolled(api, text_, agent).me.state == "active"
