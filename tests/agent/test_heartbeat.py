"""When the heartbeat beats, what it carries, and what an answer means; no process, no sleep."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import identity
from agent.heartbeat_pace import Pace
from agent.heartbeat_store import Offer
from tests.doubles.heartbeat import KNOWN, HeartbeatParts
from wire import bodies, limits, paths
from wire.artifacts import ArtifactResponse
from wire.commands import PendingCommand
from workers.messages import Sampled
from workers.messages_heartbeat import Collected, HubCall, Renew, Renewed

LATER = "2125-01-01T00:00:00Z"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[HeartbeatParts]:
    parts = HeartbeatParts(tmp_path)
    parts.heartbeat.start()
    parts.turn()
    yield parts
    parts.close()


def offer(command_id: str = "c1", kind: str = "collect_telemetry", **more: Any) -> PendingCommand:
    told = {"command_id": command_id, "command_type": kind, "expires_at": LATER, **more}
    return PendingCommand(**told)


def states(beat: dict[str, Any]) -> list[tuple[str, str]]:
    return [(r["command_id"], r["state"]) for r in beat.get("command_results", [])]


def test_first_beat_comes_at_once_and_the_next_after_the_hub_s_interval(
    parts: HeartbeatParts,
) -> None:
    assert parts.answer(next_interval_sec=30)["agent_id"] == "agent-7"
    parts.turn(29.0)
    assert not parts.has_open_call
    parts.turn(1.5)
    assert parts.beat["seq"] == 2


@pytest.mark.parametrize(("said", "kept"), [(0.001, 1.0), (1e9, 3600.0)])
def test_interval_is_held_within_bounds(parts: HeartbeatParts, said: float, kept: float) -> None:
    parts.answer(next_interval_sec=said)
    assert parts.heartbeat.interval_s == kept


def test_nothing_is_asked_while_a_call_is_open(parts: HeartbeatParts) -> None:
    parts.heartbeat.poll_now()
    parts.turn(1.0)
    assert len(parts.calls) == 1
    parts.answer()
    assert len(parts.calls) == 2


def test_poll_now_beats_within_a_moment(parts: HeartbeatParts) -> None:
    parts.answer(next_interval_sec=600)
    parts.heartbeat.poll_now()
    parts.turn(0.3)
    assert parts.beat["seq"] == 2


def test_command_is_told_running_then_completed_and_then_no_more(parts: HeartbeatParts) -> None:
    parts.answer(pending_commands=(offer(),))
    (worker,) = parts.collectors()
    parts.turn(0.3)
    assert states(parts.answer()) == [("c1", "running")]
    worker.says(Sampled(data={"cpu": 1}))
    parts.turn(0.3)
    beat = parts.answer()
    assert states(beat) == [("c1", "completed")]
    assert beat["command_results"][0]["result_summary"] == {"count": 1, "samples": [{"cpu": 1}]}
    parts.turn(100.0)
    assert states(parts.beat) == []


def test_quick_command_is_told_running_and_completed_in_one_beat(parts: HeartbeatParts) -> None:
    parts.answer(pending_commands=(offer(),))
    parts.collectors()[0].says(Sampled(data={}))
    parts.turn(0.3)
    assert states(parts.beat) == [("c1", "running"), ("c1", "completed")]


def test_unanswered_beat_is_told_again_whole(parts: HeartbeatParts) -> None:
    parts.answer(pending_commands=(offer(),))
    parts.collectors()[0].says(Sampled(data={}))
    parts.turn(0.3)
    told = states(parts.beat)
    parts.fail("timeout")
    parts.turn(400.0)
    assert states(parts.beat) == told


def test_replayed_answer_begins_nothing_again(parts: HeartbeatParts) -> None:
    for _ in range(3):
        parts.answer(pending_commands=(offer(),))
        parts.turn(0.3)
    assert len(parts.collectors()) == 1


def test_ids_are_known_for_seven_days_by_the_hub_s_clock(parts: HeartbeatParts) -> None:
    start_ms = 1_800_000_000_000
    parts.answer(pending_commands=(offer(kind="nothing"),), server_ts=start_ms)
    parts.turn(0.3)
    parts.answer(server_ts=start_ms)
    day_ms = 86_400_000
    for days, failures in ((6.9, 1), (7.1, 1), (7.2, 2)):
        parts.turn(100.0)
        now_ms = start_ms + days * day_ms
        parts.answer(pending_commands=(offer(kind="nothing"),), server_ts=now_ms)
        parts.turn(0.3)
        parts.answer(server_ts=now_ms)
        told = [r for r in parts.log.records if r[2].get("type") == "nothing"]
        assert len(told) == failures, days


def test_commands_are_carried_out_one_at_a_time_in_their_order(parts: HeartbeatParts) -> None:
    parts.answer(pending_commands=tuple(offer(f"c{n}") for n in range(3)))
    for n in range(3):
        parts.turn()
        assert [w.record.key for w in parts.collectors()] == [f"c{i}" for i in range(n + 1)]
        parts.collectors()[n].says(Sampled(data={}))


@pytest.mark.parametrize(
    ("reason", "error"), [("worker_died", "worker_died"), ("worker_stalled", "worker_stalled")]
)
def test_lost_collector_is_its_command_s_error(
    parts: HeartbeatParts, reason: str, error: str
) -> None:
    parts.answer(pending_commands=(offer(),))
    parts.collectors()[0].dies(reason)
    parts.turn(0.3)
    assert parts.beat["command_results"][-1]["error"] == error


def test_collector_that_never_ends_is_killed(parts: HeartbeatParts) -> None:
    parts.answer(pending_commands=(offer(),), next_interval_sec=3600)
    parts.turn(0.3)
    parts.answer(next_interval_sec=3600)
    parts.turn(200.0)
    assert parts.collectors()[0].killed
    parts.turn(0.3)
    assert parts.beat["command_results"][-1]["error"] == "timeout"


def test_refused_command_says_why_and_has_no_worker(parts: HeartbeatParts) -> None:
    parts.refusal = "policy_denied"
    parts.answer(pending_commands=(offer(),))
    parts.turn(0.3)
    assert parts.beat["command_results"][0]["error"] == "policy_denied"
    assert parts.collectors() == []


def test_inventory_goes_up_when_its_digest_is_new_or_wanted(parts: HeartbeatParts) -> None:
    parts.answer(next_interval_sec=600)
    for digest, is_told in (("a" * 64, True), ("a" * 64, False), ("b" * 64, True)):
        parts.heartbeat.stocktaken(b'{"os":{"name":"x"}}', digest)
        parts.turn(0.3)
        beat = parts.answer(next_interval_sec=600)
        assert beat["inventory_digest"] == digest and ("inventory" in beat) is is_told
    parts.turn(700.0)
    parts.answer(want_inventory=True)
    parts.turn(0.3)
    assert "inventory" in parts.answer()


def test_inventory_that_is_not_there_yet_is_taken(parts: HeartbeatParts) -> None:
    parts.answer(want_inventory=True)
    (worker,) = parts.collectors()
    text = b'{"os":{"name":"x"},"agent":{"version":"1"},"hardware":{}}'
    worker.prints(0, text)
    worker.ends(Collected(bytes=len(text), digest="c" * 64))
    parts.turn(0.3)
    assert parts.beat["inventory"]["os"] == {"name": "x"}


def test_large_result_waits_for_its_upload(parts: HeartbeatParts) -> None:
    parts.answer(pending_commands=(offer(kind="collect_inventory"),))
    (worker,) = parts.collectors()
    text = b'{"os":{"name":"' + b"x" * 20_000 + b'"},"agent":{"version":"1"},"hardware":{}}'
    worker.prints(0, text)
    worker.ends(Collected(bytes=len(text), digest="c" * 64))
    parts.turn()
    call, body = parts.open_call
    assert isinstance(call, HubCall) and (call.path, body) == (paths.ARTIFACTS, text)
    assert call.query == {"command_id": "c1", "name": "result.json"}
    stored = ArtifactResponse(artifact_id="art", sha256="0" * 64, size_bytes=len(text))
    parts.reply(201, bodies.encode(stored))
    parts.turn(0.3)
    last = parts.beat["command_results"][-1]
    assert (last["state"], last["artifact_id"]) == ("completed", "art")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(413, "too_large", "artifact_refused"), (400, "bad_digest", "artifact_refused")],
)
def test_refused_artifact_ends_its_command(
    parts: HeartbeatParts, status: int, code: str, error: str
) -> None:
    test_large = b'{"os":{"name":"' + b"x" * 20_000 + b'"}}'
    parts.answer(pending_commands=(offer(kind="collect_inventory"),))
    parts.collectors()[0].prints(0, test_large)
    parts.collectors()[0].ends(Collected(bytes=len(test_large), digest="c" * 64))
    parts.turn()
    parts.refuse(status, code)
    parts.turn(0.3)
    last = parts.beat["command_results"][-1]
    assert (last["state"], last["error"]) == ("failed", error)


def test_artifact_waits_for_a_hub_that_is_full(parts: HeartbeatParts) -> None:
    text = b'{"os":{"name":"' + b"x" * 20_000 + b'"}}'
    parts.answer(pending_commands=(offer(kind="collect_inventory"),))
    parts.collectors()[0].prints(0, text)
    parts.collectors()[0].ends(Collected(bytes=len(text), digest="c" * 64))
    parts.turn()
    parts.refuse(507, "no_space", 30.0)
    parts.turn(0.3)
    assert "completed" not in dict(states(parts.answer())).values()
    parts.turn()
    assert parts.open_call[0].path == paths.ARTIFACTS  # type: ignore[union-attr]


def test_samples_of_an_outage_are_kept_newest_thousand_and_follow_in_order(
    parts: HeartbeatParts,
) -> None:
    parts.fail()
    for n in range(1500):
        parts.heartbeat.on_sample(b'{"cpu":%d}' % n, is_live=False)
        if n % 100 == 0:
            parts.turn()
    parts.turn(400.0)
    seen: list[int] = []
    for _ in range(5):
        beat = parts.answer()
        assert len(beat["metrics"]) <= limits.BEAT_METRICS
        seen += [sample["cpu"] for sample in beat["metrics"]]
        parts.turn(0.3)
    assert seen == list(range(500, 1500))
    parts.turn(100.0)
    assert "metrics" not in parts.beat


def test_sample_that_went_out_live_rides_the_next_beat_and_is_not_kept(
    parts: HeartbeatParts,
) -> None:
    parts.answer()
    for n in range(3):
        parts.heartbeat.on_sample(b'{"cpu":%d}' % n, is_live=True)
    parts.turn(100.0)
    assert parts.answer()["metrics"] == [{"cpu": 2}]
    parts.turn(100.0)
    assert "metrics" not in parts.beat


@pytest.mark.family("enrolment")
def test_day_without_a_hub_loses_no_result_and_keeps_the_newest_samples(tmp_path: Path) -> None:
    """24 hours, a sample a minute: few tries, and all is there afterwards."""
    parts = HeartbeatParts(tmp_path, pace=Pace(random.Random(1).uniform))
    try:
        parts.heartbeat.start()
        parts.turn()
        parts.answer(pending_commands=(offer(),))
        parts.collectors()[0].says(Sampled(data={}))
        parts.turn(1.0)
        tries = 0
        for minute in range(24 * 60):
            while parts.has_open_call:
                tries += 1
                parts.fail()
            parts.heartbeat.on_sample(b'{"cpu":%d}' % minute, is_live=False)
            parts.turn(60.0)
        assert 250 < tries < 24 * 60
        while not parts.has_open_call:
            parts.turn(30.0)
        beat = parts.answer()
        assert states(beat) == [("c1", "running"), ("c1", "completed")]
        assert beat["metrics"][0] == {"cpu": 440}
    finally:
        parts.close()


def test_retry_after_is_waited_for_at_least(parts: HeartbeatParts) -> None:
    parts.refuse(503, "unavailable", 120.0)
    parts.heartbeat.ended("c", None)
    parts.turn(119.0)
    assert not parts.has_open_call
    parts.turn(70.0)
    assert parts.has_open_call


def test_revoked_agent_asks_every_ten_minutes(parts: HeartbeatParts) -> None:
    for _ in range(3):
        parts.refuse(403, "agent_revoked")
        parts.turn(599.0)
        assert not parts.has_open_call
        parts.turn(2.0)
    assert parts.heartbeat.condition.failure is not None
    assert parts.heartbeat.condition.failure.reason == "agent_revoked"


def test_answer_that_makes_no_sense_is_a_failure_and_loses_nothing(parts: HeartbeatParts) -> None:
    parts.heartbeat.on_sample(b'{"cpu":1}', is_live=False)
    parts.answer()
    parts.turn(100.0)
    for body in (b"<html>", b"{}", b'{"server_ts":"now"}'):
        assert parts.beat["metrics"] == [{"cpu": 1}]
        parts.reply(200, body)
        assert parts.heartbeat.condition.state == "failing"
        parts.turn(400.0)


def test_retired_bearer_makes_a_worker_with_the_certificate(
    parts: HeartbeatParts, tmp_path: Path
) -> None:
    parts.refuse(401, "bearer_retired", agents_url="https://agents.example")
    parts.obey_end()
    parts.turn(0.2)
    assert parts.worker.spec.base_url == "https://agents.example"
    assert parts.has_open_call
    kept = identity.read(tmp_path)
    assert kept is not None and kept.mtls and kept.agents_url == "https://agents.example"


def test_bearer_that_stays_retired_is_a_failure_not_a_loop(parts: HeartbeatParts) -> None:
    parts.refuse(401, "bearer_retired", agents_url="https://agents.example")
    parts.obey_end()
    parts.turn(0.2)
    parts.refuse(401, "bearer_retired", agents_url="https://agents.example")
    assert parts.heartbeat.condition.state == "failing"
    assert not parts.has_open_call


def test_certificate_is_renewed_after_two_thirds_and_once_in_ten_minutes(tmp_path: Path) -> None:
    known = msgspec.structs.replace(
        KNOWN, not_before="2027-01-01T00:00:00Z", not_after="2027-01-31T00:00:00Z"
    )
    parts = HeartbeatParts(tmp_path, known)
    try:
        parts.heartbeat.start()
        parts.turn()
        parts.answer(server_ts=bodies.wall_s("2027-01-20T23:00:00Z") * 1000)
        assert not parts.has_open_call
        parts.turn(100.0)
        parts.answer(server_ts=bodies.wall_s("2027-01-21T01:00:00Z") * 1000)
        call, _ = parts.open_call
        assert isinstance(call, Renew)
        parts.fail("unavailable")
        assert not parts.has_open_call
        parts.turn(700.0)
        while not isinstance(parts.open_call[0], Renew):
            parts.answer(server_ts=bodies.wall_s("2027-01-21T01:00:00Z") * 1000)
        renewed = Renewed(
            call_id=parts.open_call[0].call_id,
            certificate="new certificate",
            ca_chain="chain",
            key="new key",
            not_before="2027-01-21T00:00:00Z",
            not_after="2027-02-21T00:00:00Z",
        )
        parts.worker.says(renewed)
        parts.turn()
        kept = identity.read(tmp_path)
        assert kept is not None and (kept.certificate, kept.key) == ("new certificate", "new key")
        parts.obey_end()
    finally:
        parts.close()


def test_tenant_s_policy_is_kept_only_when_it_can_be_used(
    parts: HeartbeatParts, tmp_path: Path
) -> None:
    parts.answer(policy={"profile": "operator"})
    assert parts.policies == [{"profile": "operator"}]
    parts.policy_fault = "wrong"
    parts.turn(100.0)
    parts.answer(policy={"profil": "x"})
    kept = identity.read(tmp_path)
    assert kept is not None and kept.policy == {"profile": "operator"}
    assert ("error", "the tenant's policy cannot be used", {"why": "wrong"}) in parts.log.records


def test_worker_that_dies_fails_its_call_and_is_replaced(parts: HeartbeatParts) -> None:
    first = parts.worker
    first.dies()
    parts.pool.released.append(first)
    parts.turn(1.1)
    assert parts.worker is not first
    assert parts.heartbeat.condition.failure is not None
    assert parts.heartbeat.condition.failure.reason == "worker_died"


def test_store_that_cannot_be_used_is_told_once_and_the_machine_still_beats(
    tmp_path: Path,
) -> None:
    (tmp_path / "heartbeat.db").mkdir()
    parts = HeartbeatParts(tmp_path)
    try:
        parts.heartbeat.start()
        parts.turn()
        assert parts.answer(pending_commands=(offer(),))["agent_id"] == "agent-7"
        parts.turn(100.0)
        assert parts.has_open_call
        assert parts.collectors() == [] or all(w.record.key == "stock" for w in parts.collectors())
        told = [r for r in parts.log.records if "store cannot be used" in r[1]]
        assert len(told) == 1
    finally:
        parts.close()


def test_beat_fits_its_limit_whatever_waits(parts: HeartbeatParts) -> None:
    parts.fail()
    for _ in range(200):
        parts.heartbeat.on_sample(b'{"hostname":"%s"}' % (b"h" * 4000), is_live=False)
    for n in range(120):
        command = f"c{n}"
        parts.store.take([_stored(command)], 1.0)
        parts.store.begin(command, LATER)
        parts.store.finish(command, LATER, None, {"text": "x" * 15_000})
    parts.heartbeat.stocktaken(b'{"os":"%s"}' % (b"x" * 1_900_000), "d" * 64)
    parts.turn(400.0)
    assert len(parts.open_call[1]) <= limits.MAX_BEAT_BYTES
    json.loads(parts.open_call[1])


def _stored(command_id: str) -> Offer:
    return Offer(command_id, "collect_telemetry", {}, LATER)
