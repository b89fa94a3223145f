"""The files kind: on a real loop, and confined in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.desk import DeskDouble
from tests.facilities import only_if, require_root
from workers.files import worker as files_worker
from workers.files.worker import TEXT_BYTES, ListingWorker, TailWorker
from workers.messages import End, Entry, Listed, ListingSpec, TailEnded, TailSpec, TailText


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "agent.log"
    path.write_bytes(b"one\ntwo\n")
    return path


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def tail(log: Path, **options: Any) -> tuple[DeskDouble, TailWorker]:
    desk = DeskDouble()
    worker = TailWorker(desk, lambda *_: None)
    worker.on_start(TailSpec(path=str(log), **options))
    return desk, worker


def text(desk: DeskDouble) -> str:
    return "".join(message.data for message in desk.sent if isinstance(message, TailText))


def test_tail_sends_the_last_lines_and_then_what_comes(log: Path) -> None:
    desk, _ = tail(log, lines=1)
    desk.run_until(lambda: text(desk) == "two\n")
    append(log, "three é\n")
    desk.run_until(lambda: text(desk) == "two\nthree é\n")


def test_tail_goes_on_after_a_rotation(log: Path) -> None:
    desk, _ = tail(log)
    log.rename(log.with_suffix(".1"))
    log.write_text("new\n")
    desk.run_until(lambda: text(desk) == "one\ntwo\nnew\n")


def test_tail_sends_small_pieces(log: Path) -> None:
    log.write_text("é" * 20_000 + "\n" + "y" * 20_000 + "\n")
    desk, _ = tail(log, from_start=True)
    desk.run_until(lambda: text(desk) == log.read_text())
    pieces = [len(each.data.encode()) for each in desk.sent if isinstance(each, TailText)]
    assert max(pieces) <= TEXT_BYTES


def test_tail_without_room_sends_nothing_and_then_skips(log: Path) -> None:
    desk, worker = tail(log)
    desk.run_until(lambda: text(desk))
    desk.room = False
    append(log, "".join(f"line {number}\n" for number in range(100_000)))
    before = len(desk.sent)
    desk.run_for(1.2)
    assert len(desk.sent) == before
    desk.room = True
    worker.on_room()
    desk.run_until(lambda: text(desk).endswith("line 99999\n"))
    skipped = text(desk).split("… skipped ")[1].split(" ")[0]
    assert int(skipped) > 90_000


def test_tail_end_finishes_with_the_reason(log: Path) -> None:
    desk, worker = tail(log)
    worker.on_message(End(reason="stopped"))
    assert desk.results == [TailEnded(reason="stopped")]
    before = len(desk.sent)
    append(log, "late\n")
    desk.run_for(1.2)
    assert len(desk.sent) == before


def test_tail_of_a_link_finishes_at_once(log: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.log"
    link.symlink_to(log)
    desk, _ = tail(link)
    assert desk.result() == TailEnded(reason="unsafe_path")
    assert text(desk) == ""


def listing(path: Path | str, **options: Any) -> Listed:
    desk = DeskDouble()
    ListingWorker(desk, lambda *_: None).on_start(ListingSpec(path=str(path), **options))
    result = desk.result()
    assert isinstance(result, Listed)
    return result


def test_listing_answers_once(tmp_path: Path, log: Path) -> None:
    assert listing(tmp_path) == Listed(entries=[Entry(name="agent.log", is_dir=False, size=8)])


def test_listing_refusals_are_words(tmp_path: Path) -> None:
    assert listing(tmp_path / "none") == Listed(error="not_found")
    assert listing("/etc", roots=[[str(tmp_path)]]) == Listed(error="not_allowed")


def test_listing_dead_mount_answers_with_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(files_worker, "LISTING_DEADLINE_S", 0.2)
    monkeypatch.setattr(files_worker, "list_directory", lambda *_: released.wait(60))
    try:
        assert listing(tmp_path) == Listed(error="timeout")
    finally:
        released.set()


def test_listing_end_finishes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(files_worker, "list_directory", lambda *_: released.wait(60))
    desk = DeskDouble()
    worker = ListingWorker(desk, lambda *_: None)
    worker.on_start(ListingSpec(path=str(tmp_path)))
    try:
        worker.on_message(End(reason="closed"))
        assert desk.results == [Listed(error="closed")]
    finally:
        released.set()


# -- confined ------------------------------------------------------------------------------------

CONFINED = """
import json, os, signal, socket, sys
sys.path[:] = json.loads(sys.argv[1])
import msgspec
from tests.doubles.desk import DeskDouble
from workers.files import worker as files
from workers.messages import *

asked = json.loads(sys.argv[2])
desk = DeskDouble()
desk.secret_dirs = asked["secret_dirs"]
worker = files.make(desk)
worker.on_start(msgspec.convert(asked["spec"], TailSpec | ListingSpec))

def is_refused(act):
    try:
        act()
    except OSError as e:
        return e.errno in (1, 13)
    return False

def text():
    return "".join(each.data for each in desk.sent if isinstance(each, TailText))

parent = os.getppid()
said = {
    "secrets": [is_refused(lambda: open(path)) for path in asked["secrets"]],
    "memory": is_refused(lambda: open(f"/proc/{parent}/mem", "rb")),
    "kill": is_refused(lambda: os.kill(parent, signal.SIGCONT)),
    "raw_socket": is_refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "write": is_refused(lambda: open(asked["secrets"][0] + ".new", "w")),
}
if asked["spec"]["m"] == "tail":
    for turn in asked["waits"]:
        desk.run_until(lambda: turn in text() or desk.results)
        print(json.dumps(text()), flush=True)
        sys.stdin.readline()
    desk.run_for(1.5)
else:
    desk.result()
said["text"] = text()
said["result"] = msgspec.to_builtins(desk.results)
print(json.dumps(said))
"""


class Confined:
    """A worker in a process of its own, which tells what it could and could not do."""

    def __init__(self, spec: dict[str, Any], secrets: list[Path], waits: list[str]) -> None:
        only_if(sys.platform == "linux", "confinement is Linux's")
        asked = {
            "spec": spec,
            "secrets": [str(path) for path in secrets],
            "secret_dirs": sorted({str(path.parent) for path in secrets}),
            "waits": waits,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", CONFINED, json.dumps(sys.path), json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def text(self) -> str:
        """Wait until the next awaited text has been sent."""
        assert self._process.stdout is not None
        return str(json.loads(self._process.stdout.readline()))

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def said(self) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=100)
        assert self._process.returncode == 0
        told: dict[str, Any] = json.loads(out)
        return told


def assert_confined(said: dict[str, Any]) -> None:
    assert all(said["secrets"])
    assert said["memory"] and said["kill"] and said["raw_socket"] and said["write"]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "agent-config.json"
    path.write_text("canary")
    return path


def test_confined_tail_follows_a_rotation_in_a_directory_without_secrets(
    tmp_path: Path, secret: Path
) -> None:
    log = tmp_path / "log" / "agent.log"
    log.parent.mkdir()
    log.write_text("one\n")
    worker = Confined({"m": "tail", "path": str(log)}, [secret], ["one", "new"])
    assert worker.text() == "one\n"
    log.rename(log.with_suffix(".1"))
    log.write_text("new\n")
    worker.go_on()
    assert worker.text() == "one\nnew\n"
    worker.go_on()
    said = worker.said()
    assert_confined(said)
    assert said["result"] == []


def test_confined_tail_beside_the_configuration_finishes_when_the_log_is_rotated(
    log: Path, secret: Path
) -> None:
    worker = Confined({"m": "tail", "path": str(log)}, [secret], ["two"])
    worker.text()
    append(log, "last\n")
    log.rename(log.with_suffix(".1"))
    log.write_text("new\n")
    worker.go_on()
    said = worker.said()
    assert_confined(said)
    assert said["text"] == "one\ntwo\nlast\n"
    assert said["result"] == [{"m": "tail_ended", "reason": "rotated"}]
    again = Confined({"m": "tail", "path": str(log), "from_start": True}, [secret], ["new"])
    assert again.text() == "new\n"
    again.go_on()
    assert again.said()["result"] == []


def test_confined_listing_reads_names_and_no_contents(tmp_path: Path, secret: Path) -> None:
    said = Confined({"m": "listing", "path": str(tmp_path)}, [secret], []).said()
    assert_confined(said)
    (result,) = said["result"]
    assert result["entries"] == [{"name": "agent-config.json", "is_dir": False, "size": 6}]


def test_confined_listing_as_root_enters_another_accounts_directory(
    tmp_path: Path, secret: Path
) -> None:
    require_root()
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    (private / "file").touch()
    os.chown(private, 65534, 65534)
    spec = {"m": "listing", "path": str(private), "roots": [[str(private)]]}
    (result,) = Confined(spec, [secret], []).said()["result"]
    assert [entry["name"] for entry in result["entries"]] == ["file"]


def test_listing_closed_directory_is_permission_denied(tmp_path: Path) -> None:
    require_root()
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    script = (
        "import json, os, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        "from workers.files.listing import list_directory\n"
        "from workers.files.errors import FilesError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: list_directory(sys.argv[2], [], 10)\n"
        "except FilesError as e: print(e.reason)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, json.dumps(sys.path), private],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "permission_denied"
