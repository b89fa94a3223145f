"""Whose links are cut, though nobody told this process."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from hub.agents.housekeeping import Housekeeping
from hub.agents.models import Agent
from hub.assembly import Hub
from hub.clock import now_ms
from hub.errors import UnavailableError
from hub.operators.models import Tenant
from tests.doubles.job_parts import machine
from tests.doubles.loop import run


class CutLinks:
    """Keeps whose link was cut."""

    def __init__(self) -> None:
        self.cut_ids: list[str] = []

    async def cut(self, agent_id: str, _reason: str) -> bool:
        self.cut_ids.append(agent_id)
        return True

    def all(self) -> list[object]:
        return []


def test_revocation_is_seen_however_long_the_database_was_away(
    hub: Hub, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agent = machine(hub.database, acme.id, "m1")
    links, start_ms = CutLinks(), now_ms()
    keeper = Housekeeping(hub.database, links, 1)  # type: ignore[arg-type]

    async def away(*_: object) -> None:
        raise UnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(hub.database, "read", away)
        with pytest.raises(UnavailableError):
            run(keeper.look())
    revoked = update(Agent).values(revoked_ms=start_ms + 1000)
    hub.database.write_now(None, lambda session: session.execute(revoked))
    monkeypatch.setattr("hub.agents.housekeeping.now_ms", lambda: start_ms + 600_000)
    run(keeper.look())
    assert links.cut_ids == [agent.id]
