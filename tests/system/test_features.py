"""Contract 1.7: acknowledged finals, workers, and what is not used because a side lists it not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.agent_process import AgentProcess
from tests.doubles.pair import Pair, connected, joined
from tests.doubles.reports import Json

MARKED = {"ack": {"id", "jobId"}, "resume": {"offset"}, "base64": {"encoding"}}
OURS = {
    "resume": {"shell_gap"},
    "stream": {"admin_output"},
    "workers": {"workers", "worker_result"},
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Pair]:
    with connected() as pair:
        yield pair


@pytest.fixture
def pair(shared: Pair) -> Iterator[Pair]:
    """Both sides list everything; the hub's modes are back to normal for each test."""
    shared.hub.set(ack="now", credit="auto", shellAck=True)
    yield shared
    shared.hub.set(ack="now")
    shared.hub.release()


def waiting(agent: AgentProcess) -> list[Json]:
    items: list[Json] = agent.ask("outbox")["items"]
    return items


# -- ack --------------------------------------------------------------------------------------


def test_final_stays_in_the_outbox_until_it_is_acknowledged(pair: Pair) -> None:
    pair.hub.set(ack="hold")
    event = pair.begin("true")
    received = pair.hub.wait_for("admin_result", jobId=event)
    assert received.wants_ack
    assert [item["id"] for item in waiting(pair.agent)] == [received.payload["id"]]
    pair.hub.release()
    pair.agent.until(lambda: not waiting(pair.agent))


@pytest.mark.parametrize("how", ["abort", "close", "namespace"])
def test_final_is_sent_again_on_the_next_link_under_the_same_id(pair: Pair, how: str) -> None:
    pair.hub.set(ack="never")
    job = pair.begin("echo once")
    first = pair.result(job)
    mark = pair.hub.record.mark()
    pair.hub.set(ack="now")
    pair.reconnected(how)
    again = pair.hub.wait_for("admin_result", jobId=job, since=mark).payload
    assert again == first
    pair.agent.until(lambda: not waiting(pair.agent))


def test_final_is_acknowledged_once_and_not_sent_again(pair: Pair) -> None:
    job = pair.begin("true")
    pair.result(job)
    pair.agent.until(lambda: not waiting(pair.agent))
    pair.reconnected()
    pair.round_trip()
    assert len(pair.hub.events("admin_result", jobId=job)) == 1


def test_job_delivered_three_times_runs_once_and_answers_each_time(
    pair: Pair, tmp_path: Path
) -> None:
    """Also while it runs: whoever asks then gets the one result that is coming."""
    runs, go = tmp_path / "runs", tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.02; done"
    command = f"sh -c 'echo run >> {runs}; {wait}; echo done'"
    job = pair.begin(command)
    pair.agent.until(runs.exists)
    pair.begin(command, job)
    pair.round_trip()
    go.touch()
    first = pair.result(job)
    for _ in range(2):
        mark = pair.hub.record.mark()
        pair.begin(command, job)
        again = pair.hub.wait_for("admin_result", jobId=job, since=mark).payload
        assert again["result"] == first["result"]
    assert runs.read_text() == "run\n"
    assert len(pair.hub.events("admin_result", jobId=job)) == 3


def test_job_id_with_another_body_is_refused(pair: Pair, tmp_path: Path) -> None:
    job = pair.begin("echo one")
    pair.result(job)
    for body in ({"command": "echo two"}, {"command": "echo one", "timeoutSec": 5}):
        mark = pair.hub.record.mark()
        pair.hub.emit("admin_run", {"jobId": job, "cmd": body})
        answer = pair.hub.wait_for("admin_result", jobId=job, since=mark).payload["result"]
        assert (answer["summary"]["code"], answer["error"]) == (2, "id_reused")
        assert answer["stderr"]


def test_token_is_no_key_even_where_job_ids_are_known(pair: Pair, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for _ in range(3):
        mark = pair.hub.record.mark()
        request = {"token": "same", "cmd": {"command": f"sh -c 'echo run >> {runs}'"}}
        pair.hub.emit("admin_run", request)
        answer = pair.hub.wait_for("admin_result", token="same", since=mark).payload
        assert "jobId" not in answer
    assert runs.read_text() == "run\n" * 3


# -- workers ----------------------------------------------------------------------------------


def list_workers(pair: Pair) -> dict[str, Json]:
    request = pair.name()
    pair.hub.emit("worker_list", {"requestId": request})
    items = pair.hub.wait_for("workers", requestId=request).payload["items"]
    return {item["id"]: item for item in items}


def restart(pair: Pair, worker_id: str) -> Json:
    request = pair.name()
    pair.hub.emit("worker_restart", {"requestId": request, "id": worker_id})
    result: Json = pair.hub.wait_for("worker_result", requestId=request).payload
    return result


def telemetry(pair: Pair) -> Json:
    """Return its row once it runs; {} before."""
    rows = list_workers(pair).values()
    return next((row for row in rows if row["kind"] == "telemetry" and row["pid"]), {})


def worker_of(pair: Pair, job: str) -> Json:
    return next(item for item in list_workers(pair).values() if item["job"] == job)


def test_workers_are_listed_with_job_process_memory_and_beat(pair: Pair) -> None:
    session = pair.shell()
    item = worker_of(pair, session)
    assert (item["kind"], item["state"]) == ("shell", "RUNNING")
    assert item["pid"] > 1 and item["memoryBytes"] > 100_000
    assert 0 <= item["beatAgeMs"] < 20_000
    assert any(other["kind"] == "telemetry" for other in list_workers(pair).values())
    pair.hub.emit("shell_close", {"session": session})


def test_restarted_shell_keeps_its_session_and_its_offsets(pair: Pair) -> None:
    session = pair.shell()
    before = worker_of(pair, session)
    assert restart(pair, before["id"])["ok"] is True
    pair.hub.wait_for_output(session, "restarted by an administrator")
    pair.type(session, "echo pid-$$ aga''in\n")
    pair.hub.wait_for_output(session, "again\r\n")
    after = worker_of(pair, session)
    assert (after["id"], after["pid"] != before["pid"]) == (before["id"], True)
    joined(pair.hub.events("shell_output", session=session))
    assert pair.hub.events("shell_closed", session=session) == []
    pair.hub.emit("shell_close", {"session": session})


def test_restarted_command_ends_and_is_not_run_again(pair: Pair, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    job = pair.begin(f"sh -c 'echo run >> {runs}; sleep 600'")
    pair.agent.until(runs.exists)
    assert restart(pair, worker_of(pair, job)["id"])["ok"] is True
    outcome = pair.result(job)["result"]
    assert outcome["summary"]["code"] == 143 and outcome["error"]
    assert runs.read_text() == "run\n"
    assert all(item["job"] != job for item in list_workers(pair).values())


def test_restarted_telemetry_is_another_process(pair: Pair) -> None:
    before = telemetry(pair)
    assert restart(pair, before["id"])["ok"] is True
    after = pair.agent.until(lambda: telemetry(pair))
    assert (after["id"], after["pid"] != before["pid"]) == (before["id"], True)


def test_restart_of_an_unknown_worker_is_refused(pair: Pair) -> None:
    answer = restart(pair, "shell-nobody")
    assert (answer["ok"], answer["error"]) == (False, "not_found")


# -- who lists what ---------------------------------------------------------------------------


def use_everything(pair: Pair, tmp_path: Path) -> Json:
    """Do what each feature is for; return the results of a jobId that was sent twice."""
    session = pair.name()
    pair.hub.emit("shell_start", {"session": session})
    pair.type(session, "stty -echo; printf '\\377\\n'; echo rea''dy\n")
    pair.hub.wait_for_output(session, "ready\r\n")
    pair.hub.emit("shell_ack", {"session": session, "offset": 1})
    pair.hub.emit("shell_resume", {"session": session, "offset": 0})
    pair.hub.emit("worker_list", {"requestId": "list"})
    pair.hub.emit("worker_restart", {"requestId": "restart", "id": "telemetry"})
    runs = tmp_path / "runs"
    for _ in range(2):
        mark = pair.hub.record.mark()
        request = {"jobId": "one", "token": "t", "cmd": {"command": f"sh -c 'echo r >> {runs}'"}}
        pair.hub.emit("admin_run", request)
        pair.hub.wait_for("admin_result", token="t", since=mark)
    pair.type(session, "exit 3\n")
    closed = pair.hub.wait_for("shell_closed", session=session).payload
    assert (closed["code"], closed["reason"]) == (3, "exit")
    return {"runs": runs.read_text().count("r"), "output": pair.hub.output(session)}


@pytest.mark.parametrize(
    "features",
    [
        (),
        ("ack",),
        ("credit", "base64"),
        ("resume",),
        ("stream",),
        ("resume", "base64"),
        ("stream", "base64", "ack"),
        ("workers",),
        ("no-such-feature", "tools", "backup2", "poll_now"),
    ],
)
def test_features_that_the_hub_does_not_list_are_not_used(
    features: tuple[str, ...], tmp_path: Path
) -> None:
    """An event or a field of a feature comes only where the hub lists it; `resume` and `stream`
    need `base64`, too."""
    usable = set(features)
    if "base64" not in usable:
        usable -= {"resume", "stream"}
    with connected(features=features) as pair:
        did = use_everything(pair, tmp_path)
        events = pair.hub.events()
    allowed = set().union(*(MARKED[name] for name in usable & MARKED.keys()))
    for event in events:
        marked = event.payload.keys() & {field for fields in MARKED.values() for field in fields}
        assert event.name == "admin_output" or marked <= allowed, event
        assert event.wants_ack == ("ack" in usable and "id" in event.payload), event
        for feature, names in OURS.items():
            assert event.name not in names or feature in usable, event
    assert did["runs"] == (1 if "ack" in usable else 2)
    assert (b"\xff" in did["output"]) == ("base64" in usable)
    assert any(event.name == "workers" for event in events) == ("workers" in usable)


def test_nothing_of_the_extensions_is_said_before_hello_ack(tmp_path: Path) -> None:
    """The CONNECT packet's `auth` excepted; what began before goes on with them."""
    with connected(modes={"helloAck": 1500}) as pair:
        session = pair.name()
        pair.hub.emit("shell_start", {"session": session})
        pair.type(session, "stty -echo; printf '\\377\\n'; echo rea''dy\n")
        pair.hub.wait_for_output(session, "ready\r\n")
        early = pair.hub.events()
        pair.hub.wait_for("stats")
        pair.type(session, "printf '\\376\\n'; echo la''te\n")
        pair.hub.wait_for_output(session, "late\r\n")
        events = pair.hub.events("shell_output", session=session)
        pair.type(session, "exit\n")
        closed = pair.hub.wait_for("shell_closed", session=session)
        assert pair.hub.connections[0].auth["features"]
    for event in early:
        assert not event.payload.keys() & {"offset", "encoding", "id", "jobId", "detail"}
    assert pair.hub.output(session).count(b"ready\r\n") == 1
    late = [event for event in events if "offset" in event.payload]
    assert late and b"\xfe" in joined(late, late[0].payload["offset"])
    assert closed.wants_ack and closed.payload["id"]


def test_foreign_hello_on_a_live_session_repeats_no_output(tmp_path: Path) -> None:
    """A server that lists nothing, late: the output that is under way goes on where it is."""
    modes = {"helloAck": 300, "tally": ["shell_output"]}
    with connected(features=(), modes=modes) as pair:
        session = pair.name()
        pair.hub.emit("shell_start", {"session": session})
        pair.type(session, "PS1=; stty -echo -onlcr; seq 2000000 5000000; exit\n")
        pair.hub.wait_for("stats")
        in_time = not pair.hub.events("shell_closed")
        pair.hub.wait_for("shell_closed")
        told = pair.hub.tally()[f"shell_output {session}"]
    assert in_time, "the flood was over before the server said hello"
    assert told["bytes"] - 8 * 3_000_001 < 200


# -- across the agent's life ------------------------------------------------------------------


def test_jobs_are_told_at_connect_and_go_on_after_kill_9_of_the_agent() -> None:
    with connected() as pair:
        session = pair.shell()
        job = pair.begin("sleep 600")
        pair.agent.until(lambda: pair.agent.workers("admin"))

        def listed(auth: dict[str, Any]) -> dict[str, tuple[str, str]]:
            return {each["id"]: (each["kind"], each["state"]) for each in auth["jobs"]}

        expected = {session: ("shell", "running"), job: ("admin", "running")}
        assert listed(pair.reconnected().auth) == expected
        pair.hub.emit("shell_resume", {"session": session, "offset": 0})
        mark = pair.hub.record.mark()
        pair.agent.kill()
        pair.agent.start()
        connection = pair.hub.wait_for_connection(since=mark)
        assert listed(connection.auth) == expected
        pair.hub.emit("shell_resume", {"session": session, "offset": 0})
        pair.type(session, "echo st''ill\n")
        pair.hub.wait_for_output(session, "still\r\n")
        pair.hub.emit("shell_close", {"session": session})
        pair.hub.wait_for("shell_closed", session=session)


def test_result_of_a_job_is_kept_across_a_restart_of_the_agent(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = f"sh -c 'echo run >> {runs}; echo out'"
    with connected() as pair:
        job = pair.begin(command)
        first = pair.result(job)
        mark = pair.hub.record.mark()
        pair.agent.kill()
        pair.agent.start()
        pair.hub.wait_for("stats", since=mark)
        pair.begin(command, job)
        again = pair.hub.wait_for("admin_result", jobId=job, since=mark).payload
        assert again["result"] == first["result"]
        pair.begin("echo other", job)
        pair.hub.wait_for(
            "admin_result", lambda payload: payload["result"].get("error") == "id_reused", jobId=job
        )
    assert runs.read_text() == "run\n"


@pytest.mark.parametrize("agent_too", [False, True])
def test_shell_without_a_link_ends_after_its_time(agent_too: bool) -> None:
    """Also where a restarted agent never gets a link."""
    with connected({"shell": {"detachedTimeoutSec": 2}}) as pair:
        session = pair.shell()
        pair.type(session, "echo pid=$$.\n")
        output = pair.hub.wait_for_output(session, ".\r\n").decode()
        pid = int(output.rpartition("pid=")[2].split(".")[0])
        pair.hub.kill()
        if agent_too:
            pair.agent.kill()
            pair.agent.start()

        def is_over() -> bool:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
                return False
            return True

        pair.agent.until(is_over)
        mark = pair.hub.record.mark()
        pair.hub.start()
        pair.hub.wait_for_connection(since=mark)
        pair.hub.emit("shell_resume", {"session": session, "offset": 0})
        closed = pair.hub.wait_for("shell_closed", session=session).payload
        # Counted by the agent; by the worker alone, where the next agent took longer to come.
        assert closed["reason"] in ("detached_timeout", *(("lease_expired",) if agent_too else ()))
