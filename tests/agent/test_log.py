"""The log: one JSON line a record, nobody waits, nothing secret, stderr when the file fails."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import log as module
from agent.errors import LogFileError
from agent.log import HIDDEN, Log, adopt_library_logs
from agent.logfile import LogFile

SECRET = 'p"ss wörd/1'


class Console:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def __call__(self, line: bytes) -> None:
        self.lines.append(line)


class BrokenFile(LogFile):
    """A file on a full disk, until it is mended."""

    is_broken = True

    def write(self, line: bytes) -> None:
        if self.is_broken:
            raise LogFileError("the disk is full")
        super().write(line)


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def log(tmp_path: Path, console: Console) -> Iterator[Log]:
    made = Log(LogFile(tmp_path / "agent.log"), secrets=[SECRET, "abc"], console=console)
    yield made
    made.close()


def records(tmp_path: Path) -> list[dict[str, Any]]:
    text = (tmp_path / "agent.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_log_record_is_a_sentence_with_fields(tmp_path: Path, log: Log) -> None:
    log.info("The link is up.", rtt_ms=3, path=Path("/x"), text="a\nb")
    assert log.flush(10)
    [record] = records(tmp_path)
    assert record.pop("ts").endswith("Z")
    assert record == {
        "level": "info",
        "msg": "The link is up.",
        "rtt_ms": 3,
        "path": "/x",
        "text": "a\nb",
    }


def test_log_keeps_what_is_important_enough(tmp_path: Path, log: Log) -> None:
    log.debug("Not kept.")
    log.warning("Kept.")
    assert log.flush(10)
    assert [record["msg"] for record in records(tmp_path)] == ["Kept."]


def test_log_hides_secrets_in_every_form(tmp_path: Path, log: Log) -> None:
    log.error("x", url=f"wss://h/?a=1&sig=00ff&b=2 {SECRET}", authToken="abc", note="abc")
    log.error(f"In the sentence {SECRET}.")
    log.error("quoted", path="/q?x=p%22ss%20w%C3%B6rd%2F1")
    log.hide("another-secret")
    log.error("later", data={"deep": ["another-secret"]})
    assert log.flush(10)
    text = (tmp_path / "agent.log").read_text()
    assert "rd/1" not in text
    assert "%2F1" not in text
    assert "00ff" not in text
    assert "another-secret" not in text
    first = records(tmp_path)[0]
    assert first["authToken"] == HIDDEN
    assert first["note"] == "abc"  # too short to be searched for


def test_log_survives_what_json_cannot_say(tmp_path: Path, log: Log) -> None:
    log.info("odd", number=10**400, nan=float("nan"), broken="\udcff", key={1: 2})
    log.info("next")
    assert log.flush(10)
    assert [record["msg"] for record in records(tmp_path)] == ["odd", "next"]


def test_log_fatal_goes_to_stderr_too(tmp_path: Path, log: Log, console: Console) -> None:
    log.fatal("The server refuses our signature.", reason="auth_failed")
    assert log.flush(10)
    assert len(records(tmp_path)) == 1
    assert json.loads(console.lines[0])["reason"] == "auth_failed"


def test_log_exception_tells_where_and_no_values(tmp_path: Path, log: Log) -> None:
    try:
        raise ValueError("what happened")
    except ValueError as e:
        log.exception("Unexpected.", e, part="link")
    assert log.flush(10)
    [record] = records(tmp_path)
    assert record["error"] == "ValueError('what happened')"
    assert "test_log.py" in record["traceback"][0]


def test_log_goes_to_stderr_while_the_file_fails_and_tells_later(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    file = BrokenFile(tmp_path / "agent.log")
    log = Log(file, console=console)
    log.info("one")
    log.info("two")
    assert log.flush(10)
    told = [json.loads(line)["msg"] for line in console.lines]
    assert told.count("The log file cannot be written.") == 1
    assert {"one", "two"} <= set(told)
    assert log.dropped == 2
    file.is_broken = False
    log.info("three")
    log.close(10)
    found = records(tmp_path)
    assert found[0]["msg"] == "Records did not reach this file."
    assert found[0]["count"] == 2
    assert found[1]["msg"] == "three"


def test_log_never_waits_for_a_hung_disk(tmp_path: Path, console: Console) -> None:
    entered, release = threading.Event(), threading.Event()

    class HungFile(LogFile):
        def write(self, line: bytes) -> None:
            entered.set()
            release.wait(60)
            super().write(line)

    log = Log(HungFile(tmp_path / "agent.log"), console=console)
    log.info("first")
    assert entered.wait(10)
    for _ in range(40):
        log.info("big", text="x" * 100_000)
    assert log.dropped > 10
    assert not log.flush(0.01)
    release.set()
    log.close(30)
    assert any(record.get("count", 0) > 10 for record in records(tmp_path))


def test_log_takes_what_libraries_log(tmp_path: Path, log: Log) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        adopt_library_logs(log)
        logging.getLogger("engineio.client").warning("packet %s", f"?sig=12 {SECRET}")
        logging.getLogger("engineio.client").info("noise")
        assert log.flush(10)
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
    [record] = records(tmp_path)
    assert record["logger"] == "engineio.client"
    assert "rd/1" not in record["text"]
