"""What an agent is told of its tenant's policy."""

from __future__ import annotations

from typing import Any

import pytest

from hub.assembly import Hub
from hub.heartbeat import policies
from hub.heartbeat.policies import merged
from hub.policy.document import PolicyDocument
from tests.doubles.beating import ENROLL, Roles, Tokens, beat, enrolled
from tests.doubles.hub_client import HubClient
from tests.doubles.simulated_agent import SimulatedAgent


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, {}),
        ({"profile": "operator"}, {"profile": "operator"}),
        ({"profile": "full", "tags": {"web": {"profile": "reporter"}}}, {"profile": "reporter"}),
        ({"profile": "full", "tags": {"db": {"profile": "reporter"}}}, {"profile": "full"}),
        (
            {
                "admin": {"enableShell": True, "allowedCommands": ["ls", "df -h"]},
                "tags": {"web": {"admin": {"enableShell": False, "allowedCommands": ["df"]}}},
            },
            {"admin": {"enableShell": False, "allowedCommands": ["df -h"]}},
        ),
        (
            {
                "admin": {"allowedCommands": ["*"]},
                "tags": {"web": {"admin": {"allowedCommands": ["uptime"]}}},
            },
            {"admin": {"allowedCommands": ["uptime"]}},
        ),
        ({"admin": {"allowedCommands": []}}, {"admin": {"allowedCommands": []}}),
    ],
)
def test_strictest_of_what_counts_is_told(document: dict[str, Any], told: dict[str, Any]) -> None:
    assert merged(PolicyDocument.model_validate(document), ["web"]) == told


def test_beat_brings_the_tenants_policy(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    assert "policy" not in beat(api, agent).json()
    said = {"document": {"profile": "reporter"}}
    reply = api.put("/api/v1/policy", json=said, headers=as_role("tenant_admin"))
    assert reply.status_code == 200, reply.text
    hub.beats.policies.know(api.run(hub.database.read(None, policies.read)))
    assert beat(api, agent).json()["policy"] == {"profile": "reporter"}


def test_enrolment_brings_the_tenants_policy(
    hub: Hub, api: HubClient, token: Tokens, as_role: Roles
) -> None:
    """A machine is as narrow as its tenant wants from its first start on."""
    assert enrolled(api, token()).me.policy is None
    said = {"document": {"profile": "full", "tags": {"web": {"profile": "reporter"}}}}
    assert api.put("/api/v1/policy", json=said, headers=as_role("tenant_admin")).status_code == 200
    hub.beats.policies.know(api.run(hub.database.read(None, policies.read)))
    text, agent = token(tags=("web",)), SimulatedAgent("web-2")
    assert enrolled(api, text, agent).me.policy == {"profile": "reporter"}
    lost = api.post(ENROLL, json=agent.request(text)).json()
    again = api.post(ENROLL, json=agent.request(text, **agent.proof(lost["nonce"])))
    assert again.json()["policy"] == {"profile": "reporter"}
