"""What a killed hub left, when the next one starts."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from hub.agents.models import Asset
from hub.assembly import Hub
from hub.errors import UnavailableError
from hub.operators.models import Tenant
from tests.doubles.job_parts import machine
from tests.doubles.loop import run


def test_who_does_not_come_back_is_offline_though_the_database_was_away_meanwhile(
    hub: Hub, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, _ = machine(hub.database, acme.id, "m1")
    online = update(Asset).values(presence="online")
    hub.database.write_now(None, lambda session: session.execute(online))
    monkeypatch.setattr("hub.agents.presence.GRACE_S", 0.0)
    read, away = hub.database.read, [True, True]

    async def now_and_then(*args: Any) -> Any:
        if away:
            away.pop()
            raise UnavailableError
        return await read(*args)

    monkeypatch.setattr(hub.database, "read", now_and_then)
    heard: list[tuple[str, str, str]] = []
    hub.presence.changed(lambda one: heard.append((one.asset_id, one.state, one.reason)))
    run(hub.presence.settle())
    assert not away
    assert heard == [(asset.id, "offline", "hub_restarted")]
