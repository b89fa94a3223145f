"""The CONNECT packet's `auth`, and refusals of every shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests.wire.strategies import FUZZ, JSON
from wire.connect import (
    ConnectAuth,
    JobState,
    Refusal,
    auth_object,
    read_auth,
    read_refusal,
    refusal_object,
)
from wire.errors import WireError

AUTH = ConnectAuth(
    agent_version="0.1.0",
    boot_id="b-1",
    features=("ack",),
    jobs=(JobState(id="s-1", kind="shell", state="running", offset=10),),
)


def test_auth_travels_as_the_contract_names_it() -> None:
    built = auth_object(AUTH)
    assert built == {
        "agentVersion": "0.1.0",
        "bootId": "b-1",
        "features": ["ack"] if isinstance(built["features"], list) else ("ack",),
        "jobs": built["jobs"],
    }
    assert built["jobs"][0] == {"id": "s-1", "kind": "shell", "state": "running", "offset": 10}
    assert read_auth(built) == AUTH


@pytest.mark.parametrize("value", [None, {}, {"token": "x"}, "x", 5, []])
def test_auth_of_a_foreign_agent_is_none(value: object) -> None:
    assert read_auth(value) is None


@pytest.mark.parametrize(
    "changed", [{"features": "ack"}, {"jobs": [{"id": 5}]}, {"bootId": ""}, {"bootId": "\x00"}]
)
def test_auth_of_ours_that_is_malformed_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        read_auth({**auth_object(AUTH), **changed})


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(reason="rate_limited", server_ts=5.0, retry_after_ms=1500.0),
        Refusal(reason="auth_failed"),
    ],
)
def test_refusal_travels(refusal: Refusal) -> None:
    assert read_refusal(refusal_object(refusal)) == refusal


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "refused"),
        ("Invalid namespace", "Invalid namespace"),
        ({"message": "auth_expired"}, "auth_expired"),
        ({"message": 5, "data": []}, "refused"),
        ({"message": "a\x1b]0;b\n"}, "a ]0;b "),
        ({"message": "x" * 9999}, "x" * 256),
    ],
)
def test_refusal_of_any_shape_gives_a_sentence(value: object, reason: str) -> None:
    assert read_refusal(value).reason == reason


@pytest.mark.parametrize("number", [-1, True, "5", float("nan"), float("inf"), 10**400, None])
def test_refusal_ignores_times_that_are_none(number: object) -> None:
    refusal = read_refusal({"message": "m", "data": {"retryAfterMs": number, "serverTs": number}})
    assert (refusal.retry_after_ms, refusal.server_ts) == (None, None)


@FUZZ
@given(value=JSON)
def test_reading_a_refusal_never_fails(value: Any) -> None:
    assert read_refusal(value).reason
    try:
        read_auth(value)
    except WireError:
        pass
