"""A hub with a tenant that makes enrolment tokens."""

from __future__ import annotations

from typing import Any

import pytest

from hub.assembly import Hub
from hub.audit import service as audit
from hub.heartbeat import enrolment_tokens
from hub.heartbeat.enrolment_tokens import Wanted
from hub.operators.models import Tenant
from tests.doubles.beating import Tokens, enrolled
from tests.doubles.hub_client import HubClient
from tests.doubles.simulated_agent import SimulatedAgent


@pytest.fixture
def token(hub: Hub, acme: Tenant) -> Tokens:
    """Makes enrolment tokens of `acme`."""

    def make(**wanted: Any) -> str:
        return hub.database.write_now(
            None,
            lambda session: enrolment_tokens.make(session, audit.SYSTEM, acme.id, Wanted(**wanted))[
                1
            ],
        )

    return make


@pytest.fixture
def agent(api: HubClient, token: Tokens) -> SimulatedAgent:
    """An enrolled agent of `acme`."""
    return enrolled(api, token())
