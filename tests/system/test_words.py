"""Each word of the command line against one running agent: JSON that is JSON, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.pair import Pair, connected


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected() as both:
        yield both


def asked(pair: Pair, *words: str, code: int = 0) -> Any:
    """Run a word with `--json`; return what it printed."""
    ran = pair.agent.command(*words, "--json")
    assert ran.returncode == code, (words, ran)
    return json.loads(ran.stdout)


def up_again(pair: Pair) -> Any:
    link = pair.agent.ask("status")["link"]
    return link if link["state"] == "up" and link["reconnects"] else None


def test_status_tells_all_that_an_admin_asks_for(pair: Pair) -> None:
    session = pair.shell()
    pair.hub.set(ack="never")
    pair.result(pair.begin("true"))
    told = asked(pair, "status")
    link = told["link"]
    assert link["state"] == "up" and link["since"] and link["for_s"] >= 0
    assert link["rtt_ms"] > 0 and link["reconnects"] == 0 and link["last_refusal"] is None
    shell = next(worker for worker in told["workers"] if worker["job"] == session)
    assert (shell["kind"], shell["state"]) == ("shell", "RUNNING")
    assert shell["pid"] and shell["memory_bytes"] and shell["beat_ago_s"] is not None
    outbox = told["outbox"]
    assert outbox["count"] == 1 and outbox["bytes"] > 0 and outbox["oldest_s"] >= 0
    (item,) = asked(pair, "outbox", "ls")
    assert item["event"] == "admin_result"
    pair.hub.set(ack="now")
    pair.hub.emit("shell_close", {"session": session})
    pair.reconnected()
    link = pair.agent.until(lambda: up_again(pair))
    assert (link["reconnects"], link["last_refusal"]["reason"]) == (1, "closed")


def test_worker_words_act_and_say_what_they_did(pair: Pair) -> None:
    session = pair.shell()
    row = next(worker for worker in asked(pair, "worker", "list") if worker["job"] == session)
    assert asked(pair, "worker", "show", row["id"])[0]["pid"] == row["pid"]
    assert asked(pair, "worker", "restart", row["id"]) == [
        {"id": row["id"], "again": True, "ok": True, "error": None}
    ]
    pair.hub.wait_for_output(session, "restarted by an administrator")
    assert asked(pair, "worker", "stop", row["id"])[0]["ok"] is True
    assert pair.hub.wait_for("shell_closed", session=session).payload["reason"] == "closed"
    assert asked(pair, "worker", "restart", "nobody", code=4)["error"] == "not_found"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("config", "check"), 0),
        (("config", "check", "--strict"), 78),
        (("config", "show", "--origin"), 0),
        (("policy", "show"), 0),
        (("policy", "test", "shell"), 0),
        (("policy", "test", "command", "true; id"), 5),
        (("policy", "explain", "command", "uptime"), 0),
        (("outbox", "ls"), 0),
    ],
)
def test_word_prints_json(pair: Pair, words: tuple[str, ...], code: int) -> None:
    assert asked(pair, *words, code=code) is not None


def test_pause_is_told_and_resume_ends_it(pair: Pair) -> None:
    asked(pair, "pause", "an audit")
    try:
        assert asked(pair, "status")["paused"]["reason"] == "an audit"
        assert pair.result(pair.begin("true"))["result"]["summary"]["code"] == 126
    finally:
        assert asked(pair, "resume")["was_paused"] is True
    assert asked(pair, "status")["paused"] is None


def test_logs_print_the_records_as_they_are(pair: Pair) -> None:
    lines = pair.agent.command("logs", "--json").stdout.splitlines()
    assert all({"ts", "level", "msg"} <= json.loads(line).keys() for line in lines)


def test_doctor_prints_its_findings(pair: Pair) -> None:
    ran = pair.agent.command("doctor", "--json")
    checks = {finding["check"] for finding in json.loads(ran.stdout)}
    assert len(checks) >= 8
