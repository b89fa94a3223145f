"""How long a machine waits for a person and for a hub; no test sleeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.enrolment import exchange
from agent.errors import EnrolmentError
from agent.exits import UNAVAILABLE
from tests.doubles.http_hub import HttpHub, RefuseError
from wire.bodies import Body
from wire.enrolment import DeviceCodeResponse, EnrollRequest
from wire.problem import Code
from workers import certificates
from workers.https import Access, Answer


class Sleeps(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def code(**changes: Any) -> DeviceCodeResponse:
    told = {"device_code": "d", "user_code": "u", "verification_uri": "https://h", **changes}
    return DeviceCodeResponse(**{"expires_in": 60, "interval": 5, **told})


def test_slow_down_adds_five_seconds_each_time_it_is_said() -> None:
    with HttpHub() as hub:
        slow, wait = RefuseError(400, Code.SLOW_DOWN), RefuseError(400, "authorization_pending")
        hub.device_answers = [wait, slow, wait, slow, None]
        sleeps = Sleeps()
        exchange.approval(Access(base_url=hub.url), code(), sleeps)
    assert sleeps == [5, 5, 10, 10, 15]


def test_code_that_nobody_approves_ends_when_it_expires() -> None:
    with HttpHub() as hub:
        hub.device_answers = [RefuseError(400, Code.AUTHORIZATION_PENDING)] * 100
        sleeps = Sleeps()
        with pytest.raises(EnrolmentError, match="nobody approved"):
            exchange.approval(Access(base_url=hub.url), code(expires_in=30), sleeps)
    assert 30 <= sum(sleeps) <= 40


def test_hub_that_is_away_for_a_while_is_asked_less_often() -> None:
    with HttpHub() as hub:
        hub.stop_listening()
        sleeps = Sleeps()
        with pytest.raises(EnrolmentError):
            exchange.approval(Access(base_url=hub.url), code(expires_in=200), sleeps)
    assert sleeps[:4] == [5, 10, 20, 40] and max(sleeps) <= 60


@pytest.mark.parametrize(
    "lost",
    [
        ("plain",) * 5,  # the last try hears of the nonce
        ("plain", "proof"),
        ("plain", "proof", "plain", "proof"),
    ],
)
def test_every_reply_but_the_last_may_be_lost(
    lost: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that restarts, or a relay that cuts: whatever of it was stored is had again."""
    posted, left = exchange._posted, list(lost)

    def losing(access: Access, path: str, body: Body) -> Answer:
        answer = posted(access, path, body)
        assert isinstance(body, EnrollRequest)
        if left and left[0] == ("plain" if body.nonce is None else "proof"):
            left.pop(0)
            raise EnrolmentError(UNAVAILABLE, "lost")
        return answer

    monkeypatch.setattr(exchange, "_posted", losing)
    key = certificates.new_key()
    with HttpHub(tmp_path) as hub:
        ca_data = hub.authority.ca_file.read_text() if hub.authority else None
        request = EnrollRequest(
            csr=certificates.request(key, "host"),
            hostname="host",
            machine_id="m",
            platform="linux",
            agent_version="1",
            boot_id="b",
            token=hub.make_token(),
        )
        access = Access(base_url=hub.url, ca_data=ca_data)
        given = exchange.enrol(access, request, key, Sleeps())
        (agent,) = hub.agents.values()
    assert left == []
    assert (given.agent_id, given.service_account_token) == (agent.agent_id, agent.bearer)


@pytest.mark.parametrize("attempt", range(8))
def test_tries_are_spread_and_never_further_apart_than_the_most(attempt: int) -> None:
    assert all(0 <= exchange._wait_s(attempt) <= exchange.WAIT_MAX_S for _ in range(50))
    assert exchange._wait_s(attempt, 7.0) == 7.0
    assert exchange._wait_s(attempt, 9999.0) == 60.0
