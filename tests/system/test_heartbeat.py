"""The heartbeat of a real agent at a scripted hub: beats, commands, outages, certificates."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.enrolled import EnrolledAgent
from tests.doubles.http_hub import HttpHub, RefuseError
from wire import bodies, enroltoken, inventory, paths
from wire.commands import PendingCommand
from wire.problem import Code


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HttpHub]:
    with HttpHub(tmp_path) as hub:
        yield hub


def enrolled(hub: HttpHub) -> EnrolledAgent:
    return EnrolledAgent(enroltoken.carrying(hub.make_token(), hub.url, hub.ca_sha256))


@pytest.fixture
def agent(hub: HttpHub) -> Iterator[EnrolledAgent]:
    agent = enrolled(hub)
    try:
        yield agent
    finally:
        agent.close()


def test_enrolled_machine_beats_and_opens_nothing_else(hub: HttpHub, agent: EnrolledAgent) -> None:
    hub.interval_s = 1.0
    agent.start()
    hub.until(lambda: len(hub.beats) >= 3)
    beat = hub.beats[2]
    assert beat.agent_id == agent.identity["agent_id"]
    assert [each.seq for each in hub.beats[:3]] == [1, 2, 3]
    assert hub.bearers[0] == agent.identity["service_account_token"]
    status = agent.until(lambda: (s := agent.ask("status"))["heartbeat"]["state"] == "up" and s)
    assert status["link"]["state"] == "off" and status["heartbeat"]["only_link"]
    assert agent.command("status").returncode == 0
    assert "the only link" in agent.command("status").stdout
    assert not any("link is" in str(record) for record in agent.log_records())


def test_connection_is_kept_and_used_again(hub: HttpHub, agent: EnrolledAgent) -> None:
    hub.interval_s = 1.0
    before = hub.connections
    agent.start()
    hub.until(lambda: len(hub.beats) >= 4)
    assert hub.connections == before + 1


def test_samples_and_inventory_ride_the_beat(hub: HttpHub, agent: EnrolledAgent) -> None:
    hub.interval_s = 1.0
    agent.start()
    hub.until(lambda: any(beat.metrics for beat in hub.beats))
    sample = next(beat.metrics[0] for beat in hub.beats if beat.metrics)
    assert sample.cpu is not None and sample.mem is not None and sample.ts is not None
    hub.until(lambda: any(beat.inventory for beat in hub.beats))
    beat = next(beat for beat in hub.beats if beat.inventory)
    assert beat.inventory is not None
    assert inventory.digest(beat.inventory) == beat.inventory_digest
    assert beat.inventory.agent.profile == "reporter"
    count = len(hub.beats)
    hub.until(lambda: len(hub.beats) > count + 2)
    later = hub.beats[count + 1 :]
    assert all(b.inventory is None and b.inventory_digest == beat.inventory_digest for b in later)
    with hub.lock:
        hub.want_inventory, count = True, len(hub.beats)
    hub.until(lambda: any(each.inventory for each in hub.beats[count:]))


def test_command_is_accepted_run_and_reported_in_this_order(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    command = hub.order("collect_inventory", sections=["os", "hardware"])
    agent.start()
    hub.until(lambda: hub.final(command))
    states = [result.state for result in hub.results[command]]
    assert states[0] == "running" and "completed" in states
    done = hub.final(command)
    assert done is not None and done.result_summary is not None
    assert done.result_summary["inventory"]["os"]["name"]
    assert done.started_at is not None and done.finished_at is not None


def test_large_result_goes_up_as_an_artifact_first(hub: HttpHub, agent: EnrolledAgent) -> None:
    command = hub.order("collect_inventory")
    agent.start()
    hub.until(lambda: hub.final(command))
    done = hub.final(command)
    assert done is not None and done.artifact_id is not None
    found = bodies.decode(inventory.Inventory, hub.artifacts[done.artifact_id], 1 << 22)
    assert done.result_summary is not None
    assert inventory.digest(found) == done.result_summary["digest"]
    assert done.result_summary["counts"]["packages"] == len(found.packages) > 0


def test_telemetry_is_collected_as_often_as_asked(hub: HttpHub, agent: EnrolledAgent) -> None:
    command = hub.order("collect_telemetry", samples=3, interval_sec=0.2)
    agent.start()
    hub.until(lambda: hub.final(command))
    done = hub.final(command)
    assert done is not None and done.result_summary is not None
    assert done.result_summary["count"] == 3 == len(done.result_summary["samples"])


@pytest.mark.parametrize(
    ("kind", "params", "error"),
    [
        ("run_shell", {"command": "touch /tmp/never"}, "unsupported_type"),
        ("collect_telemetry", {"samples": 10_000}, "bad_params"),
        ("collect_inventory", {"sections": ["passwords"]}, "bad_params"),
    ],
)
def test_what_cannot_be_collected_fails_and_is_never_executed(
    hub: HttpHub, agent: EnrolledAgent, kind: str, params: dict[str, Any], error: str
) -> None:
    command = hub.order(kind, **params)
    agent.start()
    hub.until(lambda: hub.final(command))
    (only,) = hub.results[command]
    assert (only.state, only.error, only.started_at) == ("failed", error, None)


def test_paused_machine_collects_nothing_and_still_beats(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    assert agent.command("pause").returncode == 0
    command = hub.order("collect_inventory")
    agent.start()
    hub.until(lambda: hub.final(command))
    done = hub.final(command)
    assert done is not None and done.error == "locked_by_host"


def test_expired_command_is_not_begun(hub: HttpHub, agent: EnrolledAgent) -> None:
    past = bodies.moment(time.time() - 5)
    offer = PendingCommand(
        command_id="late", command_type="collect_inventory", expires_at=past, params={}
    )
    hub.pending.append(offer)
    agent.start()
    hub.until(lambda: hub.final("late"))
    assert [(r.state, r.error) for r in hub.results["late"]] == [("failed", "expired")]


def test_replayed_answer_runs_nothing_twice(hub: HttpHub, agent: EnrolledAgent) -> None:
    hub.interval_s = 1.0
    command = hub.order("collect_telemetry")
    offer = hub.pending[0]
    agent.start()
    hub.until(lambda: hub.final(command))
    started = hub.final(command)
    for _ in range(3):
        count = len(hub.beats)
        with hub.lock:
            hub.pending.append(offer)
        hub.until(lambda count=count: len(hub.beats) > count + 1)
    assert {r.started_at for r in hub.results[command]} == {started.started_at}  # type: ignore[union-attr]
    begun = [r for r in agent.log_records() if r.get("kind") == "telemetry"]
    assert len(begun) <= 1


def test_command_that_was_lost_with_its_answer_is_offered_again_and_ends_once(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    """The hub marks it accepted, and the answer never arrives: it is offered again later."""
    hub.interval_s = 1.0
    command = hub.order("collect_telemetry")
    offer = hub.pending[0]
    hub.lost[paths.HEARTBEAT] = 1
    agent.start()
    hub.until(lambda: len(hub.beats) >= 2)
    assert command not in hub.results
    with hub.lock:
        hub.pending.append(offer)
    hub.until(lambda: hub.final(command))
    assert hub.offers[command] == 2
    assert [r.state for r in hub.results[command]].count("completed") == 1


def test_result_is_told_until_it_was_answered(hub: HttpHub, agent: EnrolledAgent) -> None:
    hub.interval_s = 1.0
    command = hub.order("collect_telemetry")
    agent.start()
    hub.until(lambda: command in hub.results)
    hub.lost[paths.HEARTBEAT] = 1
    hub.until(lambda: [r.state for r in hub.results[command]].count("completed") >= 1)
    count = len(hub.beats)
    hub.until(lambda: len(hub.beats) > count + 2)
    told = [r.state for r in hub.results[command]].count("completed")
    assert 1 <= told <= 2
    assert not any(beat.command_results for beat in hub.beats[-1:])


def test_worker_that_is_killed_is_started_again_and_beats(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    hub.interval_s = 1.0
    agent.start()
    hub.until(lambda: hub.beats)
    (worker,) = agent.until(lambda: agent.workers("heartbeat"))
    os.kill(worker["pid"], signal.SIGKILL)
    agent.until(lambda: [w for w in agent.workers("heartbeat") if w["pid"] != worker["pid"]])
    count = len(hub.beats)
    hub.until(lambda: len(hub.beats) > count + 1)


def test_stopped_worker_is_found_out_and_replaced(hub: HttpHub, agent: EnrolledAgent) -> None:
    hub.interval_s = 1.0
    agent.start()
    hub.until(lambda: hub.beats)
    (worker,) = agent.until(lambda: agent.workers("heartbeat"))
    os.kill(worker["pid"], signal.SIGSTOP)
    count = len(hub.beats)
    hub.until(lambda: len(hub.beats) > count + 2)


def test_restarted_agent_goes_on_counting_and_says_what_was_lost(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    command = hub.order("collect_telemetry", samples=60, interval_sec=60)
    agent.start()
    hub.until(lambda: command in hub.results)
    seq = hub.beats[-1].seq
    agent.kill()
    agent.start()
    hub.until(lambda: hub.final(command))
    done = hub.final(command)
    assert done is not None and (done.state, done.error) == ("failed", "agent_restarted")
    assert hub.beats[-1].seq > seq


def test_refusals_are_waited_out_and_told(hub: HttpHub, agent: EnrolledAgent) -> None:
    hub.refusals[paths.HEARTBEAT] = RefuseError(503, Code.UNAVAILABLE, retry_after_s=1)
    agent.start()
    hub.until(lambda: len([r for r in hub.requests if r[1] == paths.HEARTBEAT]) >= 2)
    status = agent.until(lambda: (h := agent.heartbeat)["state"] == "failing" and h)
    assert status["last_failure"]["reason"] == "unavailable"
    assert agent.command("status").returncode == 1
    del hub.refusals[paths.HEARTBEAT]
    hub.until(lambda: hub.beats)


def test_hub_s_certificate_of_another_authority_hears_nothing(
    hub: HttpHub, agent: EnrolledAgent, tmp_path: Path
) -> None:
    path = agent.state_dir / "identity" / "identity.json"
    (tmp_path / "other").mkdir()
    with HttpHub(tmp_path / "other") as other:
        known = agent.identity | {"hub_url": other.url}
        path.write_text(json.dumps(known))
        agent.start()
        status = agent.until(lambda: (h := agent.heartbeat)["state"] == "failing" and h)
        assert status["last_failure"]["reason"] == "tls"
        assert other.requests == []


def test_retired_bearer_is_answered_with_the_certificate(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    hub.interval_s = 1.0
    agent.start()
    hub.until(lambda: hub.beats)
    with hub.lock:
        hub.enforces_mtls = True
    hub.until(lambda: hub.certificates[-1] is not None)
    assert hub.bearers[-1] is None
    known = agent.identity
    assert known["mtls"] and known["agents_url"] == hub.agents_url
    assert len(hub.agents) == 1 and hub.enrols == 1
    agent.until(lambda: agent.heartbeat["mtls"] and agent.heartbeat["state"] == "up")
    count = len(hub.beats)
    agent.terminate()
    agent.start()
    hub.until(lambda: len(hub.beats) > count)
    assert hub.certificates[-1] is not None


def test_certificate_is_renewed_from_two_thirds_of_its_life(tmp_path: Path) -> None:
    with HttpHub(tmp_path) as hub:
        hub.interval_s = 1.0
        hub.certificate_starts, hub.certificate_ends = timedelta(days=-9), timedelta(days=1)
        agent = enrolled(hub)
        try:
            first = agent.identity
            agent.start()
            hub.until(lambda: hub.renewals)
            agent.until(lambda: agent.identity["certificate"] != first["certificate"])
            assert agent.identity["key"] != first["key"]
            with hub.lock:
                hub.enforces_mtls = True
            hub.until(lambda: hub.certificates and hub.certificates[-1] is not None)
            assert hub.renewals == 1
        finally:
            agent.close()


def test_tenant_s_policy_narrows_at_once_and_after_a_restart(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    hub.interval_s = 1.0
    hub.policy = {"admin": {"allowedCommands": ["uptime"]}}
    agent.start()
    agent.until(lambda: agent.identity.get("policy") == hub.policy)

    def sides() -> set[str]:
        return {row["side"] for row in agent.ask("policy")["rows"]}

    assert sides() == {"this machine", "the tenant"}
    hub.policy = {"admin": {"allowedComands": ["typo"]}}
    agent.until(lambda: [r for r in agent.log_records() if "cannot be used" in str(r)])
    assert agent.identity["policy"] == {"admin": {"allowedCommands": ["uptime"]}}
    agent.terminate()
    agent.start()
    agent.until(sides)
    assert sides() == {"this machine", "the tenant"}
    shown = json.loads(agent.command("policy", "show", "--json").stdout)
    assert {row["side"] for row in shown["keys"]} == {"this machine", "the tenant"}


def test_identity_and_bearer_are_in_no_log_no_argument_and_no_environment(
    hub: HttpHub, agent: EnrolledAgent
) -> None:
    hub.interval_s = 1.0
    command = hub.order("collect_inventory")
    agent.start()
    hub.until(lambda: hub.final(command))
    known = agent.identity
    secrets = [known["service_account_token"], known["auth_token"], known["key"].split("\n")[1]]
    log = (agent.root / "log" / "agent.log").read_text()
    seen = [log, (agent.root / "stderr").read_text()]
    for pid in agent.processes():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # its work may be over
                seen.append(Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace"))
    artifacts = b"".join(hub.artifacts.values()).decode()
    assert not [s for s in secrets for text in [*seen, artifacts] if s in text]
