"""A peer is sent nothing that it has not asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import FUZZ, ROWS, messages
from wire.admin import AdminCredit
from wire.events import TABLE, Direction, event_name
from wire.features import ACK, BASE64, CREDIT, FEATURES, RESUME, STREAM, agreed
from wire.fields import LISTED
from wire.link import HelloAck
from wire.peers import EVENT_FEATURES, for_peer
from wire.shell import ShellClosed, ShellOutput, ShellStart


def test_marked_fields_exist_and_may_be_absent() -> None:
    for direction, name in ROWS:
        cls = TABLE[direction][name]
        for field, feature in cls.OURS.items():
            assert field in cls.__struct_fields__, (name, field)
            assert field not in cls.__struct_fields__[: -len(cls.__struct_defaults__) or None]
            assert feature in {LISTED, *FEATURES}


def test_marked_events_are_in_the_table() -> None:
    assert set(EVENT_FEATURES) <= {name for _, name in ROWS}
    assert set(EVENT_FEATURES.values()) <= set(FEATURES)


def test_foreign_peer_gets_the_old_contract_alone() -> None:
    closed = ShellClosed(session="s", code=0, reason="exit", detail="d", id="e-1")
    assert for_peer(closed, None) == ShellClosed(session="s", code=0, reason="exit")
    start = ShellStart(session="s", cols=80, rows=24, operator="ann")
    assert for_peer(start, None) == ShellStart(session="s")
    assert for_peer(HelloAck(features=("ack",), server_ts=1), None) == HelloAck()
    assert for_peer(AdminCredit(job_id="j", bytes=1), None) is None


def test_peer_with_a_list_gets_what_it_listed() -> None:
    closed = ShellClosed(session="s", detail="d", id="e-1")
    assert for_peer(closed, frozenset()) == ShellClosed(session="s", detail="d")
    assert for_peer(closed, frozenset({ACK})) is closed
    output = ShellOutput(session="s", data="x", offset=5)
    assert for_peer(output, frozenset({CREDIT})) == ShellOutput(session="s", data="x")
    assert for_peer(output, frozenset({RESUME})) is output


@FUZZ
@given(data=st.data(), row=st.sampled_from(ROWS))
def test_peer_with_every_feature_gets_everything(
    data: st.DataObject, row: tuple[Direction, str]
) -> None:
    message = data.draw(messages(*row))
    assert for_peer(message, frozenset(FEATURES)) is message
    stripped = for_peer(message, None)
    assert (stripped is None) == (event_name(message) in EVENT_FEATURES)
    assert stripped is None or not any(getattr(stripped, field) for field in message.OURS)


@pytest.mark.parametrize(
    ("ours", "theirs", "usable"),
    [
        (FEATURES, None, None),
        (FEATURES, [], set()),
        (FEATURES, FEATURES, set(FEATURES)),
        ([ACK, CREDIT], [CREDIT, "later"], {CREDIT}),
        (["later"], ["later"], set()),
        ([RESUME, STREAM, ACK], FEATURES, {ACK}),
        (FEATURES, [RESUME, BASE64], {RESUME, BASE64}),
    ],
)
def test_features_are_used_only_when_both_list_them(
    ours: list[str], theirs: list[str] | None, usable: set[str] | None
) -> None:
    assert agreed(ours, theirs) == usable
