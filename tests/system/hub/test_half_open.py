"""A network that swallows every packet without a word: both sides notice, and meet again.

Fault cases C ("Half-open: DROP both ways without RST").
"""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select

from hub.agents.models import Asset
from tests.doubles.agent_process import running_agent
from tests.doubles.hub_inside import HubInside
from tests.doubles.network import Network
from tests.doubles.operator_desk import asset_of, linked

OFFLINE_S = 95.0
pytestmark = pytest.mark.timeout(400)


@pytest.mark.family("hub")
def test_a_half_open_link_is_found_on_both_sides_and_replaced_by_one_that_works(soak: bool) -> None:
    with Network() as network:
        hub = HubInside(network)
        timing = {} if soak else {"pongTimeoutSec": 20, "heartbeatIntervalSec": 5}
        config = {"authToken": hub.add_agent("agent-1"), **timing}
        asset_id = asset_of(hub)

        def presence() -> str:
            return str(
                hub.read(
                    lambda session: session.scalar(
                        select(Asset.presence).where(Asset.id == asset_id)
                    )
                )
            )

        try:
            hub.start()
            with running_agent(hub.url, config, prefix=network.prefix) as agent:
                linked(agent)
                hub.until(lambda: presence() == "online")
                network.swallow(True)
                cut_s = time.monotonic()
                hub.until(lambda: presence() == "offline", OFFLINE_S)
                hub_s = time.monotonic() - cut_s
                agent.until(lambda: agent.ask("status")["link"]["state"] != "up", OFFLINE_S)
                print(f"\nthe hub after {hub_s:.0f} s, both after {time.monotonic() - cut_s:.0f} s")
                network.swallow(False)
                agent.until(lambda: agent.ask("status")["link"]["state"] == "up")
                hub.until(lambda: presence() == "online")
                who = hub.token()
                status, job = hub.request(
                    "POST", f"/api/v1/agents/{asset_id}/admin", who, {"command": "echo back"}
                )
                assert status == 201, job
                path = f"/api/v1/jobs/{job['id']}"
                hub.until(lambda: hub.get(path, who)[1]["state"] == "succeeded")
        finally:
            hub.close()
