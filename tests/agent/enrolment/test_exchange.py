"""How long a machine waits for a person and for a hub; no test sleeps."""

from __future__ import annotations

from typing import Any

import pytest

from agent.enrolment import exchange
from agent.errors import EnrolmentError
from tests.doubles.http_hub import HttpHub, RefuseError
from wire.enrolment import DeviceCodeResponse
from wire.problem import Code
from workers.https import Access


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


@pytest.mark.parametrize("attempt", range(8))
def test_tries_are_spread_and_never_further_apart_than_the_most(attempt: int) -> None:
    assert all(0 <= exchange._wait_s(attempt) <= exchange.WAIT_MAX_S for _ in range(50))
    assert exchange._wait_s(attempt, 7.0) == 7.0
    assert exchange._wait_s(attempt, 9999.0) == 60.0
