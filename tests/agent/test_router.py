"""From an event to its family: every row, every malformed one, and the rate of requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.router import CONTROL_BURST
from tests.doubles.families import Core
from tests.wire.strategies import FUZZ, JSON, messages
from wire.admin import AdminResult
from wire.backup import BackupFailed, BackupResult
from wire.errors import WireError
from wire.events import TABLE, Direction, decode
from wire.files import DirListResponse, LogTailClosed
from wire.keys import KeysSyncResult
from wire.limits import MAX_INBOUND_BYTES
from wire.shell import ShellClosed
from wire.updates import AgentUpdateResult
from wire.workers import WorkerResult, Workers
from workers.messages import Acked, Credit, End, Replay, Resize

ROWS = sorted(TABLE[Direction.TO_AGENT])

# One good request of each kind that must be answered, or become a worker.
REQUESTS: dict[str, dict[str, Any]] = {
    "admin_run": {"cmd": {"command": "true"}},
    "shell_start": {"session": "new"},
    "sync_keys": {"user": "someone"},
    "log_tail_start": {"session": "tail"},
    "dir_list_request": {"clientId": "a", "requestId": "r", "mode": "local", "path": "/"},
    "backup_plan": {"planId": "p", "sourceDirs": ["/a"], "destRoot": "/b", "ignoreGlobs": []},
    "backup_start": {"planId": "p", "sourceDirs": ["/a"], "destRoot": "/b", "ignoreGlobs": []},
    "check_updates": {},
    "agent_update": {},
    "worker_list": {"requestId": "r"},
    "worker_restart": {"requestId": "r", "id": "nobody"},
}
BECOMES_WORKER = {
    "admin_run": "admin",
    "shell_start": "shell",
    "sync_keys": "keys",
    "log_tail_start": "tail",
    "dir_list_request": "listing",
    "backup_plan": "backup",
}
ANSWERED_WITH: dict[str, type] = {
    "backup_start": BackupFailed,
    "check_updates": AgentUpdateResult,
    "agent_update": AgentUpdateResult,
    "worker_list": Workers,
    "worker_restart": WorkerResult,
}
# What each family says to a request that it does not carry out.
REFUSED_WITH: dict[str, type] = {
    "admin_run": AdminResult,
    "shell_start": ShellClosed,
    "sync_keys": KeysSyncResult,
    "log_tail_start": LogTailClosed,
    "dir_list_request": DirListResponse,
    "backup_plan": BackupFailed,
    "backup_start": BackupFailed,
    "check_updates": AgentUpdateResult,
    "agent_update": AgentUpdateResult,
    "worker_restart": WorkerResult,
}


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core(features=frozenset({"workers"}))
    yield made
    made.close()


def good(name: str, payload: dict[str, Any]) -> Any:
    return decode(Direction.TO_AGENT, name, json.dumps(payload))


def bad(name: str, payload: Any) -> WireError:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    with pytest.raises(WireError) as caught:
        decode(Direction.TO_AGENT, name, text)
    return caught.value


@pytest.mark.parametrize("name", ROWS)
@settings(FUZZ, max_examples=25)
@given(st.data())
def test_router_takes_any_message_of_every_row(name: str, data: st.DataObject) -> None:
    """Unknown sessions, odd ids, silly figures: nothing is raised, live things are left alone."""
    core = Core()
    try:
        core.router.on_event(good("shell_start", {"session": "live"}))
        message: Any = data.draw(messages(Direction.TO_AGENT, name))
        core.router.on_event(message)
        core.turn()
        assert not [c for c in core.said(ShellClosed) if c.session == "live"]
    finally:
        core.close()


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_router_request_is_answered_or_becomes_a_worker(core: Core, name: str) -> None:
    core.router.on_event(good(name, REQUESTS[name]))
    core.turn()
    assert [w.record.kind for w in core.pool.workers] == (
        [BECOMES_WORKER[name]] if name in BECOMES_WORKER else []
    )
    assert [type(m) for m in core.uplink.said] == (
        [] if name in BECOMES_WORKER else [ANSWERED_WITH[name]]
    )


def test_router_unsupported_families_say_so(core: Core) -> None:
    for name in ("check_updates", "agent_update"):
        core.router.on_event(good(name, REQUESTS[name]))
    assert [m.error for m in core.uplink.said] == ["unsupported"] * 2
    assert len(core.uplink.finals) == 2


def test_router_hands_session_events_to_their_shell(core: Core) -> None:
    core.uplink.features = frozenset({"credit", "resume", "base64"})
    core.router.on_event(good("shell_start", {"session": "s"}))
    (worker,) = core.pool.workers
    worker.told.clear()
    core.router.on_event(good("shell_input", {"session": "s", "data": "é"}))
    core.router.on_event(good("shell_resize", {"session": "s", "cols": 100, "rows": 30}))
    core.router.on_event(good("shell_credit", {"session": "s", "bytes": 5}))
    core.router.on_event(good("shell_ack", {"session": "s", "offset": 0}))
    core.router.on_event(good("shell_resume", {"session": "s", "offset": 0}))
    core.router.on_event(good("shell_close", {"session": "s"}))
    assert worker.typed == ["é".encode()]
    assert [type(m) for m in worker.told] == [Resize, Credit, Acked, Replay, End]


@pytest.mark.parametrize(
    "name",
    ["shell_input", "shell_resize", "shell_close", "shell_credit", "shell_ack", "shell_resume"],
)
def test_router_unknown_session_is_nothing(core: Core, name: str) -> None:
    fields = {"data": "x", "cols": 1, "rows": 1, "bytes": 1, "offset": 0}
    core.router.on_event(good(name, {"session": "nobody", **fields}))
    assert core.uplink.said == [] and core.pool.workers == []


# -- what is no message -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, payload",
    [
        ("admin_run", {}),
        ("admin_run", []),
        ("admin_run", "{"),
        ("admin_run", {"cmd": {"command": 5}}),
        ("admin_run", {"cmd": "ls", "token": "t", "jobId": "j"}),
        ("admin_run", {"cmd": {"command": "ls", "timeoutSec": "soon"}, "token": "t"}),
        ("shell_start", {"session": "s", "cols": "wide"}),
        ("shell_start", '{"session":"s","cols":1,}'),
        ("sync_keys", {}),
        ("sync_keys", {"user": 5}),
        ("sync_keys", "NaN"),
        ("log_tail_start", {"session": "s", "lines": "all"}),
        ("dir_list_request", {"requestId": "r", "clientId": "a", "path": 5, "mode": "local"}),
        ("backup_plan", {"planId": "p", "sourceDirs": "all"}),
        ("backup_start", {"planId": "p", "sourceDirs": 5}),
        ("check_updates", {"at": []}),
        ("agent_update", {"tag": 5}),
        ("worker_restart", {"requestId": "r"}),
    ],
)
def test_router_malformed_request_gets_its_family_s_answer_once(
    core: Core, name: str, payload: Any
) -> None:
    core.router.on_bad_event(bad(name, payload))
    core.turn()
    (answer,) = core.uplink.said
    assert type(answer) is REFUSED_WITH[name]
    assert core.pool.workers == []
    assert core.router.bad_events == 1


@pytest.mark.parametrize(
    "name, fields",
    [
        ("backup_cancel", {"planId": 5}),
        ("backup_verify", {"full": "yes"}),
        ("backup_restore", {"paths": "all"}),
        ("backup_ls", {"path": 5}),
        ("backup_prune", {"dryRun": 1}),
        ("backup_schedule_set", {"schedules": [{"id": "s"}]}),
    ],
)
def test_router_malformed_backup_request_of_our_hub_is_answered_under_its_id(
    core: Core, name: str, fields: dict[str, Any]
) -> None:
    """Nobody waits for an answer that cannot come; a peer without the feature is told nothing."""
    error = bad(name, {"requestId": "r", "planId": "p", **fields})
    core.router.on_bad_event(error)
    assert core.uplink.said == []
    core.uplink.features = frozenset({"backup2"})
    core.router.on_bad_event(error)
    (told,) = core.said(BackupResult)
    assert (told.request_id, told.ok, told.error) == ("r", False, "bad_request")
    assert told.plan_id == (None if name == "backup_cancel" else "p")


def test_router_malformed_plan_of_our_hub_is_answered_under_its_request(core: Core) -> None:
    payload = {"planId": "p", "requestId": "r", "sourceDirs": 5}
    core.router.on_bad_event(bad("backup_plan", payload))
    core.uplink.features = frozenset({"backup2"})
    core.router.on_bad_event(bad("backup_plan", payload))
    assert [each.request_id for each in core.said(BackupFailed)] == [None, "r"]


def test_router_malformed_command_is_code_2_with_what_could_be_saved(core: Core) -> None:
    payload = {"token": "tok", "jobId": "j1", "cmd": {"command": "ls -l", "timeoutSec": "x"}}
    core.router.on_bad_event(bad("admin_run", payload))
    (answer,) = core.said(AdminResult)
    assert (answer.token, answer.job_id, answer.command) == ("tok", "j1", "ls -l")
    assert answer.result.summary.code == 2
    assert answer.result.error == "bad_request"
    assert answer.result.stderr
    core.router.on_bad_event(bad("admin_run", []))
    assert core.said(AdminResult)[1].command == ""


def test_router_too_large_command_is_refused_and_not_run(core: Core) -> None:
    payload = {"token": "t", "cmd": {"command": "echo " + "x" * MAX_INBOUND_BYTES}}
    core.router.on_bad_event(bad("admin_run", payload))
    (answer,) = core.said(AdminResult)
    assert answer.token == "t" and answer.result.summary.code == 2
    assert core.pool.workers == []


def test_router_malformed_start_of_a_live_session_leaves_it_alone(core: Core) -> None:
    core.router.on_event(good("shell_start", {"session": "s"}))
    core.router.on_bad_event(bad("shell_start", {"session": "s", "cols": "wide"}))
    assert core.said(ShellClosed) == []


LIVE: dict[str, dict[str, Any]] = {
    "admin_run": {"cmd": {"command": "true"}, "jobId": "j"},
    "shell_start": {"session": "s"},
    "log_tail_start": {"session": "t"},
    "backup_plan": {"planId": "p", "sourceDirs": ["/a"], "destRoot": "/b"},
}


def test_router_refusal_never_ends_what_is_live(core: Core) -> None:
    """An answer to a repetition, be it malformed or one too many, would be taken for the end."""
    core.uplink.features = frozenset({"ack"})
    for name, payload in LIVE.items():
        core.router.on_event(good(name, payload))
    core.turn()
    assert len(core.pool.workers) == len(LIVE)
    core.router.on_bad_event(bad("shell_start", {"session": "s", "cols": "wide"}))
    core.router.on_bad_event(bad("log_tail_start", {"session": "t", "lines": "all"}))
    for name in ("backup_plan", "backup_start"):
        core.router.on_bad_event(bad(name, {"planId": "p", "sourceDirs": 5}))
    for _ in range(CONTROL_BURST):
        core.router.on_event(good("check_updates", {}))
    core.uplink.said.clear()
    for name, payload in LIVE.items():
        core.router.on_event(good(name, payload))
    core.turn()
    assert core.uplink.said == []
    assert len(core.pool.workers) == len(LIVE)


@pytest.mark.parametrize(
    "name, payload",
    [
        ("shell_input", {"session": "s", "data": 5}),
        ("shell_input", {"session": "s"}),
        ("shell_resize", {"session": "s", "cols": 0, "rows": 0}),
        ("shell_resize", {"session": "s", "cols": -1, "rows": 10**9}),
        ("shell_resize", {"session": "s", "cols": "a", "rows": 2}),
        ("shell_resize", '{"session":"s","cols":NaN,"rows":1}'),
        ("shell_close", {"session": 5}),
        ("shell_credit", {"session": "s", "bytes": -1}),
        ("shell_ack", {"session": "s", "offset": "x"}),
        ("shell_resume", {"session": "s", "offset": -1}),
        ("admin_credit", {"jobId": "s", "bytes": 0}),
        ("log_tail_stop", {}),
        ("hello_ack", {"features": 5}),
        ("ping", {"ts": []}),
        ("no_such_event", {"session": "s"}),
        ("shell_start", {"cols": 1}),
        ("dir_list_request", {"path": "/"}),
    ],
)
def test_router_malformed_rest_is_counted_and_ends_nothing(
    core: Core, name: str, payload: Any
) -> None:
    core.router.on_event(good("shell_start", {"session": "s"}))
    core.router.on_bad_event(bad(name, payload))
    core.turn()
    (worker,) = core.pool.workers
    assert core.uplink.said == [] and worker.of(End) == []
    assert core.router.bad_events == 1
    assert [level for level, *_ in core.log.records] == ["warning"]


def test_router_too_large_input_ends_its_session_alone(core: Core) -> None:
    for session in ("s", "t"):
        core.router.on_event(good("shell_start", {"session": session}))
    too_large = {"session": "s", "data": "x" * (MAX_INBOUND_BYTES + 1)}
    core.router.on_bad_event(bad("shell_input", too_large))
    first, second = core.pool.workers
    assert [m.reason for m in first.of(End)] == ["too_large"]
    assert second.of(End) == []


def test_router_too_large_input_ends_its_session_whatever_the_rate(core: Core) -> None:
    """What is typed next must not run on as if nothing were missing."""
    core.router.on_event(good("shell_start", {"session": "s"}))
    for _ in range(CONTROL_BURST * 2):
        core.router.on_event(good("check_updates", {}))
    core.router.on_bad_event(bad("shell_input", {"session": "s", "data": "x" * MAX_INBOUND_BYTES}))
    (worker,) = core.pool.workers
    assert [m.reason for m in worker.of(End)] == ["too_large"]


@FUZZ
@given(st.sampled_from(ROWS), JSON)
def test_router_survives_any_json_in_any_row(name: str, value: Any) -> None:
    core = Core()
    try:
        try:
            message = decode(Direction.TO_AGENT, name, json.dumps(value))
        except WireError as error:
            core.router.on_bad_event(error)
        else:
            core.router.on_event(message)
        core.turn()
    finally:
        core.close()


def test_router_logs_no_payload_of_a_bad_event(core: Core) -> None:
    core.router.on_bad_event(bad("shell_input", {"session": "s", "data": ["canary-1234"]}))
    core.router.on_bad_event(bad("x" * 5000, {}))
    text = repr(core.log.records)
    assert "canary" not in text and "x" * 100 not in text


# -- rate -------------------------------------------------------------------------------------


def test_router_refuses_requests_over_the_rate_and_answers_each(core: Core) -> None:
    for number in range(CONTROL_BURST + 50):
        core.router.on_event(good("sync_keys", {"user": f"u{number}"}))
    refused = [m for m in core.said(KeysSyncResult) if m.error == "rate_limited"]
    assert [m.user for m in refused] == [f"u{n}" for n in range(CONTROL_BURST, CONTROL_BURST + 50)]
    core.clock.now_s += 1.0
    before = len(core.uplink.said)
    for number in range(250):
        core.router.on_event(good("sync_keys", {"user": f"v{number}"}))
    assert len(core.uplink.said) - before == 50


@pytest.mark.parametrize("name", sorted(set(REFUSED_WITH) | {"worker_list"}))
def test_router_rate_limited_request_gets_its_family_s_answer(core: Core, name: str) -> None:
    for _ in range(CONTROL_BURST):
        core.router.on_event(good("check_updates", {}))
    core.uplink.said.clear()
    core.router.on_event(good(name, REQUESTS[name]))
    core.turn()
    (answer,) = core.uplink.said
    assert "rate_limited" in repr(answer)
    assert core.pool.workers == []


def test_router_rate_limited_command_is_429_with_a_sentence(core: Core) -> None:
    for _ in range(CONTROL_BURST):
        core.router.on_event(good("check_updates", {}))
    core.router.on_event(good("admin_run", {"cmd": {"command": "true"}, "token": "t"}))
    (answer,) = core.said(AdminResult)
    assert (answer.result.summary.code, answer.token) == (429, "t")
    assert answer.result.stderr


def test_router_never_refuses_data(core: Core) -> None:
    core.router.on_event(good("shell_start", {"session": "s"}))
    event = good("shell_input", {"session": "s", "data": "x"})
    for _ in range(20_000):
        core.router.on_event(event)
    (worker,) = core.pool.workers
    assert len(worker.typed) == 20_000
    assert core.uplink.said == []


def test_router_flood_of_bad_events_is_answered_at_the_rate_alone(core: Core) -> None:
    """An answer to each would make us send as much as anybody sends us."""
    error = bad("sync_keys", {"user": 5})
    for _ in range(CONTROL_BURST * 3):
        core.router.on_bad_event(error)
    assert len(core.said(KeysSyncResult)) == CONTROL_BURST
    assert core.router.bad_events == CONTROL_BURST * 3
    assert len(core.log.records) == CONTROL_BURST
