"""HTTP bodies: `decode` is total, names are the contract's, the page names every field."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect as mi

from tests.facilities import ROOT
from tests.wire.strategies import FUZZ, JSON
from wire import artifacts, bodies, commands, enrolment, heartbeat, inventory, limits, problem
from wire.bodies import Body
from wire.commands import CommandType, PendingCommand
from wire.enrolment import DeviceCodeRequest, DeviceTokenRequest, EnrollRequest
from wire.errors import WireError
from wire.heartbeat import HeartbeatRequest, HeartbeatResponse
from wire.problem import Code, Problem

BODIES: list[type[Body]] = sorted(
    {
        cls
        for module in (artifacts, commands, enrolment, heartbeat, inventory, problem)
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Body) and cls is not Body
    },
    key=lambda cls: cls.__name__,
)
PAGE = (ROOT / "docs" / "reference" / "http.rst").read_text(encoding="utf-8")
BEAT = {"agent_id": "a-1", "seq": 1, "sent_at": "2025-01-31T12:00:00.000Z", "boot_id": "b"}
ENROLL = {
    "csr": "-----BEGIN",
    "hostname": "h",
    "machine_id": "m",
    "platform": "linux",
    "agent_version": "1",
    "boot_id": "b",
}


def refused(cls: type[Body], value: object, limit: int = limits.MAX_BODY_BYTES) -> WireError:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(WireError) as caught:
        bodies.decode(cls, raw, limit)
    return caught.value


@pytest.mark.parametrize("cls", BODIES, ids=lambda cls: cls.__name__)
@FUZZ
@given(value=JSON | st.binary(max_size=60))
def test_decode_gives_a_body_or_a_wire_error(cls: type[Body], value: Any) -> None:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    try:
        outcome = type(bodies.decode(cls, raw)).__name__
    except WireError as error:
        outcome = error.event
    assert outcome == cls.__name__


@pytest.mark.parametrize("cls", BODIES, ids=lambda cls: cls.__name__)
def test_names_on_the_wire_are_the_names_in_the_code(cls: type[Body]) -> None:
    assert cls.__struct_fields__ == cls.__struct_encode_fields__
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in cls.__struct_fields__)


@pytest.mark.parametrize("cls", BODIES, ids=lambda cls: cls.__name__)
def test_reference_page_names_every_field(cls: type[Body]) -> None:
    for field in msgspec.structs.fields(cls):
        spellings = (f"``{field.name}``", f"``{field.name}?``")
        assert any(each in PAGE for each in spellings), f"{cls.__name__}.{field.name}"


@pytest.mark.parametrize("code", list(Code))
def test_reference_page_explains_every_code(code: Code) -> None:
    assert f"``{code}``" in PAGE


@pytest.mark.parametrize("kind", list(CommandType))
def test_reference_page_names_every_command(kind: CommandType) -> None:
    assert f"``{kind}``" in PAGE


def test_body_over_its_limit_is_too_large() -> None:
    error = refused(HeartbeatRequest, b" " * (limits.MAX_BEAT_BYTES + 1), limits.MAX_BEAT_BYTES)
    assert error.reason == "too_large"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"[" * 50_000, id="deep"),
        pytest.param(b'{"agent_id":"a","agent_id":"b"}', id="key twice"),
        pytest.param(b'{"seq":NaN}', id="NaN"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b'{"agent_id":"\\ud800"}', id="lone surrogate"),
        pytest.param(b"", id="empty"),
    ],
)
def test_hostile_text_is_a_bad_request(raw: bytes) -> None:
    assert refused(HeartbeatRequest, raw).reason == "bad_request"


@pytest.mark.parametrize(
    "change",
    [
        {"agent_id": "../x"},
        {"agent_id": "a\n"},
        {"seq": -1},
        {"seq": "1"},
        {"sent_at": "yesterday"},
        {"sent_at": "2025-01-31T12:00:00+00:00"},
        {"metrics": [{}] * (limits.BEAT_METRICS + 1)},
        {"inventory_digest": "A" * 64},
        {"command_results": [{"command_id": "c", "state": "done"}]},
    ],
)
def test_heartbeat_of_a_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    assert bodies.decode(HeartbeatRequest, json.dumps(BEAT).encode()).seq == 1
    refused(HeartbeatRequest, BEAT | change)


def test_response_says_what_the_contract_says_and_ignores_what_it_does_not_know() -> None:
    raw = (
        b'{"server_ts": 1738324800000, "next_interval_sec": 30, "new": 1, "want_inventory": true,'
        b'"pending_commands": [{"command_id": "c", "command_type": "collect_inventory",'
        b'"params": {}, "expires_at": "2025-01-31T12:00:00Z", "lease_sec": 60}]}'
    )
    response = bodies.decode(HeartbeatResponse, raw)
    assert response.next_interval_sec == 30
    assert response.pending_commands == (
        PendingCommand(
            command_id="c",
            command_type="collect_inventory",
            expires_at="2025-01-31T12:00:00Z",
            params={},
            lease_sec=60,
        ),
    )
    assert b"policy" not in bodies.encode(response)


def test_enrolment_takes_a_token_or_a_code_and_a_proof_with_its_nonce() -> None:
    for more in ({"token": "t"}, {"device_code": "d"}):
        bodies.decode(EnrollRequest, json.dumps(ENROLL | more).encode())
    for wrong in ({}, {"token": "t", "device_code": "d"}, {"token": "t", "nonce": "n" * 20}):
        assert refused(EnrollRequest, ENROLL | wrong).reason == "bad_request"


def test_agent_must_show_its_thumbprint_for_a_code() -> None:
    refused(DeviceCodeRequest, {"client_id": "agent"})
    shown = {"client_id": "agent", "key_thumbprint": "0" * 64}
    assert bodies.decode(DeviceCodeRequest, json.dumps(shown).encode()).tenant is None


def test_form_is_read_as_json_is() -> None:
    raw = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Ax&device_code=d&client_id=cli"
    request = bodies.decode_form(DeviceTokenRequest, raw)
    assert request.grant_type == "urn:ietf:params:oauth:x"
    for wrong in (
        b"device_code=d&device_code=e&grant_type=g&client_id=cli",
        b"\xff",
        b"grant_type=%ff&device_code=d&client_id=cli",
        b"a=1&" * 100,
        b"x" * (limits.MAX_BODY_BYTES + 1),
    ):
        with pytest.raises(WireError):
            bodies.decode_form(DeviceTokenRequest, wrong)


@pytest.mark.parametrize("raw", [b"<html>", b"", b"{}", b"[]", b'{"title":1}'])
def test_answer_that_is_no_problem_is_read_as_one(raw: bytes) -> None:
    assert problem.read(502, raw).code == "http_502"


def test_problem_is_read_back_whole() -> None:
    said = Problem(title="Used", status=409, code=Code.TOKEN_USED, nonce="n" * 20)
    assert problem.read(409, bodies.encode(said)) == said


def test_moments_are_utc_with_milliseconds() -> None:
    assert bodies.moment(0) == "1970-01-01T00:00:00.000Z"
    assert bodies.wall_s(bodies.moment(1738324800.123)) == pytest.approx(1738324800.123)


def test_inventory_digest_is_of_the_content_alone() -> None:
    raw = b'{"os":{"name":"x"},"agent":{"version":"1"},"hardware":{}}'
    other = b'{"hardware":{},"agent":{"version":"1"},"os":{"name":"x"}}'
    changed = b'{"hardware":{"cpus":2},"agent":{"version":"1"},"os":{"name":"x"}}'
    one, two, three = (
        inventory.digest(bodies.decode(inventory.Inventory, each)) for each in (raw, other, changed)
    )
    assert one == two != three


@given(sha256=st.binary(min_size=32, max_size=32))
def test_content_digest_goes_both_ways(sha256: bytes) -> None:
    assert artifacts.read_digest(artifacts.digest_value(sha256)) == sha256


@pytest.mark.parametrize("value", ["", "sha-256=abc", "md5=:AAAA:", "sha-256=::"])
def test_other_digests_are_none(value: str) -> None:
    assert artifacts.read_digest(value) is None


def test_every_body_is_held_to_a_shape() -> None:
    """A field of any type would let anything through; these few are judged by who reads them."""
    free = {
        f"{cls.__name__}.{field.name}"
        for cls in BODIES
        for field in msgspec.structs.fields(cls)
        if isinstance(mi.type_info(field.type), mi.AnyType)
    }
    assert free == set()
