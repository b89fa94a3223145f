"""Commands through a real hub to a real agent: live, queued, cancelled, and once over any crash."""

from __future__ import annotations

import base64
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from sqlalchemy import update

from hub.authorize import Role
from hub.operators.models import User
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hub_process import HubProcess
from tests.doubles.operator_desk import DEADLINE_S, Desk, Script, asset_of, linked, node_agent


def test_command_ends_with_its_own_code_and_both_streams(desk: Desk, asset_id: str) -> None:
    job = desk.run(asset_id, "sh -c 'echo out; echo err >&2; exit 7'")
    ended = desk.ended(job["id"])
    assert (ended["state"], ended["error"]) == ("failed", None)
    assert ended["result"]["code"] == 7
    assert ended["result"]["stdout"], ended["result"]["stderr"] == ("out\n", "err\n")


def test_output_comes_live_and_whole(desk: Desk, asset_id: str) -> None:
    desk.connect()
    request = {"command": "seq 1 200000", "timeout_sec": 60}
    job = desk.call("admin_start", {"asset_id": asset_id, "request": request})["job"]
    stdout, _, ended = desk.watched(job["id"])
    assert ended["state"] == "succeeded"
    assert stdout == b"".join(b"%d\n" % n for n in range(1, 200001))
    assert ended["result"]["stdout_bytes"] == len(stdout)


def test_watcher_that_takes_nothing_holds_the_command_within_a_window(
    desk: Desk, asset_id: str
) -> None:
    desk.taken_by_hand = True
    desk.connect()
    request = {"command": "yes", "timeout_sec": 5}
    job = desk.call("admin_start", {"asset_id": asset_id, "request": request})["job"]
    stdout, _, ended = desk.watched(job["id"])
    assert ended["error"] in ("timeout", None)
    assert ended["result"]["code"] == 124
    assert 256 * 1024 <= len(stdout) <= 600 * 1024


def test_who_comes_later_is_shown_the_newest_output(
    desk: Desk, asset_id: str, script: Script
) -> None:
    job = desk.run(asset_id, script("echo early; WAIT"))
    desk.until(job["id"], "sent")
    desk.connect()
    desk.call("admin_watch", {"job_id": job["id"]})
    event, payload = "", {"data": ""}
    while event != "admin_output":
        event, payload = desk.events.get(timeout=DEADLINE_S)
    assert base64.b64decode(payload["data"]) == b"early\n"
    script.gate.touch()
    assert desk.ended(job["id"])["state"] == "succeeded"


def test_running_command_is_cancelled(desk: Desk, asset_id: str, script: Script) -> None:
    job = desk.run(asset_id, script("exec sleep 600"), timeout_sec=900)
    desk.hub.until(lambda: script.runs == 1)
    asked = desk.ask("POST", f"/api/v1/jobs/{job['id']}/cancel")
    assert asked["cancel_requested_at"] is not None
    ended = desk.ended(job["id"])
    assert (ended["state"], ended["error"]) == ("cancelled", "cancelled")
    desk.ask("POST", f"/api/v1/jobs/{job['id']}/cancel", want=409)


def test_command_waits_for_a_machine_that_is_offline_and_runs_once(
    hub: HubProcess, desk: Desk, script: Script
) -> None:
    token = hub.add_agent("late")
    asset_id = asset_of(hub, "late")
    refused = desk.run(asset_id, "true", want=503, when_offline="fail")
    assert refused["code"] == "agent_offline"
    assert desk.run(asset_id, "true", when_offline="skip")["state"] == "cancelled"
    cancelled = desk.run(asset_id, script("true"))
    desk.ask("POST", f"/api/v1/jobs/{cancelled['id']}/cancel")
    waiting = desk.run(asset_id, script("echo late"))
    upcoming = desk.ask("GET", f"/api/v1/jobs?state=queued&asset_id={asset_id}")["items"]
    assert [one["id"] for one in upcoming] == [waiting["id"]]
    with running_agent(hub.url, {"clientId": "late", "authToken": token}):
        assert desk.ended(waiting["id"])["result"]["stdout"] == "late\n"
    assert script.runs == 1
    assert desk.job(cancelled["id"])["state"] == "cancelled"


def test_result_arrives_once_although_the_hub_was_killed(
    hub: HubProcess, desk: Desk, agent: AgentProcess, asset_id: str, script: Script
) -> None:
    job = desk.run(asset_id, script("WAIT; echo done"), timeout_sec=120)
    hub.until(lambda: script.runs == 1)
    hub.kill()
    script.gate.touch()
    agent.until(lambda: agent.ask("outbox")["items"], DEADLINE_S)
    hub.start()
    ended = desk.ended(job["id"])
    assert (ended["state"], ended["result"]["stdout"]) == ("succeeded", "done\n")
    assert script.runs == 1
    agent.until(lambda: not agent.ask("outbox")["items"], DEADLINE_S)


def test_command_that_runs_through_a_hub_kill_is_found_again(
    hub: HubProcess, desk: Desk, asset_id: str, script: Script
) -> None:
    job = desk.run(asset_id, script("WAIT; echo done"), timeout_sec=120)
    hub.until(lambda: script.runs == 1)
    hub.kill()
    hub.start()
    desk.until(job["id"], "running")
    script.gate.touch()
    assert desk.ended(job["id"])["state"] == "succeeded"
    assert script.runs == 1


def test_machine_that_lost_everything_gives_an_unknown_outcome(
    hub: HubProcess, desk: Desk, script: Script
) -> None:
    token = hub.add_agent("forgetful")
    with running_agent(hub.url, {"clientId": "forgetful", "authToken": token}) as agent:
        linked(agent)
        asset_id = asset_of(hub, "forgetful")
        job = desk.run(asset_id, script("exec sleep 600"), timeout_sec=900)
        hub.until(lambda: script.runs == 1)
        agent.kill()
        for pid in agent.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(agent.state_dir)
        agent.state_dir.mkdir(mode=0o700)
        agent.start()
        ended = desk.ended(job["id"])
    assert (ended["state"], ended["error"]) == ("unknown", "unknown_outcome")
    assert script.runs == 1


def test_batch_with_a_stranger_in_it_does_nothing_and_what_failed_runs_again(
    hub: HubProcess, desk: Desk, asset_id: str, script: Script
) -> None:
    hub.add_user("yves", Role.OPERATOR, tenant="other")
    hub.add_agent("strange", tenant="other")
    hub.add_agent("absent")
    stranger, absent = asset_of(hub, "strange"), asset_of(hub, "absent")
    body = {"asset_ids": [asset_id, stranger], "command": script("true")}
    before = desk.ask("GET", "/api/v1/jobs?limit=1")["items"]
    desk.ask("POST", "/api/v1/admin", body, want=404)
    assert desk.ask("GET", "/api/v1/jobs?limit=1")["items"] == before
    body = {"asset_ids": [asset_id, absent], "command": "true", "when_offline": "fail"}
    batch = desk.ask("POST", "/api/v1/admin", body, want=201)
    states = {job["asset_id"]: job["state"] for job in batch["jobs"]}
    assert states[absent] == "failed"
    assert desk.ended(batch["jobs"][0]["id"])["state"] == "succeeded"
    again = desk.ask("POST", f"/api/v1/batches/{batch['batch_id']}/rerun", want=201)
    assert [job["asset_id"] for job in again["jobs"]] == [absent]
    assert script.runs == 0


def test_tenant_policy_refuses_before_anything_is_sent(
    hub: HubProcess, desk: Desk, asset_id: str, script: Script
) -> None:
    admin = Desk(hub, hub.token())
    document = {"admin": {"allowedCommands": ["uptime"]}}
    admin.ask("PUT", "/api/v1/policy", {"document": document})
    job = desk.run(asset_id, script("true"))
    assert (job["state"], job["error"], job["result"]["code"]) == ("failed", "policy_denied", 126)
    assert "allowedCommands" in job["result"]["stderr"]
    assert desk.ended(desk.run(asset_id, "uptime")["id"])["state"] == "succeeded"
    assert script.runs == 0
    desk.ask("PUT", "/api/v1/policy", {"document": {}}, want=403)
    admin.ask("PUT", "/api/v1/policy", {"document": {}})


def test_queued_work_of_a_disabled_user_is_cancelled(hub: HubProcess) -> None:
    hub.add_agent("never")
    desk = Desk(hub, hub.add_user("dora", Role.OPERATOR))
    job = desk.run(asset_of(hub, "never"), "true")
    disable = update(User).where(User.name == "dora").values(disabled_ms=1)
    hub.write(lambda session: session.execute(disable))
    ended = Desk(hub, hub.token()).ended(job["id"])
    assert (ended["state"], ended["error"]) == ("cancelled", "revoked")


def test_foreign_agent_gives_its_results_and_cannot_be_asked_to_end_one(
    hub: HubProcess, desk: Desk, script: Script, tmp_path: Path
) -> None:
    with node_agent(hub, tmp_path, "fielded"):
        asset_id = asset_of(hub, "fielded")
        jobs = [desk.run(asset_id, f"seq {n} {n}") for n in range(1, 6)]
        results = [desk.ended(job["id"])["result"] for job in jobs]
        assert [result["stdout"] for result in results] == [f"{n}\n" for n in range(1, 6)]
        job = desk.run(asset_id, script("WAIT; echo done"))
        hub.until(lambda: script.runs == 1)
        refused = desk.ask("POST", f"/api/v1/jobs/{job['id']}/cancel", want=409)
        assert refused["code"] == "not_cancellable"
        hub.kill()
        hub.start()
        script.gate.touch()
        ended = desk.ended(job["id"])
    # Its library keeps what it could not send, or does not: once at most, and never run again.
    assert ended["state"] in ("succeeded", "unknown")
    assert script.runs == 1
