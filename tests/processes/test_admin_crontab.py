"""Replacing a crontab: the old one is kept, and stands after a failure (contract 1.4)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.desk_process import ROOT, DeskProcess
from workers.messages import AdminSpec, CommandEnded, End, Running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")

# crontab(1) as far as it matters, with its faults on request: files in its directory switch them.
CRONTAB = """#!/bin/sh
cd "$(dirname "$0")"
case "$1" in
-l)
    test -e deny && { echo "you are not allowed to use this program" >&2; exit 1; }
    test -e tab || { echo "no crontab for $USER" >&2; exit 1; }
    cat tab ;;
-r)
    rm tab ;;
-)
    if test -e spoil; then cat > /dev/null; rm spoil; echo spoiled > tab; exit 1; fi
    if test -e hang; then rm hang; exec sleep 300; fi
    cat > new
    grep -q bad new && { echo "errors in crontab file, can't install." >&2; exit 1; }
    mv new tab ;;
esac
"""


class Cron:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        (folder / "crontab").write_text(CRONTAB)
        (folder / "crontab").chmod(0o755)

    def fault(self, name: str) -> None:
        (self.folder / name).touch()

    def install(self, text: str, **spec: Any) -> DeskProcess:
        spec = {"timeout_s": 60.0, **spec}
        return DeskProcess(
            "admin",
            AdminSpec(
                argv=[str(self.folder / "crontab"), "-"],
                env={"PATH": "/usr/bin:/bin"},
                cwd="",
                stdin=text.encode(),
                keep_crontab=True,
                **spec,
            ),
            self.state,
        )

    def result(self, text: str, **spec: Any) -> CommandEnded:
        with self.install(text, **spec) as desk:
            return desk.result()

    @property
    def tab(self) -> str | None:
        path = self.folder / "tab"
        return path.read_text() if path.exists() else None

    @property
    def kept(self) -> list[str]:
        return [path.read_text() for path in sorted(self.state.rglob("crontab-*"))]


@pytest.fixture
def cron(tmp_path: Path) -> Cron:
    return Cron(tmp_path)


def test_crontab_is_installed_and_the_previous_one_kept(cron: Cron):
    assert cron.result("one\n").code == 0
    assert (cron.tab, cron.kept) == ("one\n", [])
    assert cron.result("two\n").code == 0
    assert (cron.tab, cron.kept) == ("two\n", ["one\n"])


def test_kept_crontabs_are_private_and_the_last_ten(cron: Cron):
    for number in range(13):
        assert cron.result(f"{number}\n").code == 0
    assert cron.kept == [f"{number}\n" for number in range(2, 12)]
    for path in cron.state.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_same_crontab_is_kept_once(cron: Cron):
    for _ in range(3):
        assert cron.result("one\n").code == 0
    assert cron.kept == ["one\n"]


def test_refused_crontab_leaves_the_old_one_and_says_so(cron: Cron):
    cron.result("one\n")
    result = cron.result("bad\n")
    assert result.code == 1
    assert b"can't install" in result.stderr.head
    assert b"previous crontab is in place" in result.stderr.head
    assert cron.tab == "one\n"


@pytest.mark.parametrize("before", ["one\n", None])
def test_crontab_that_a_failure_has_spoiled_is_put_back(cron: Cron, before: str | None):
    if before is not None:
        cron.result(before)
    cron.fault("spoil")
    result = cron.result("two\n")
    assert result.code == 1
    assert b"put back" in result.stderr.head
    assert cron.tab == before


def test_crontab_that_cannot_be_read_is_not_replaced(cron: Cron):
    cron.result("one\n")
    cron.fault("deny")
    result = cron.result("two\n")
    assert (result.code, result.error) == (126, "crontab_not_kept")
    assert b"not allowed" in result.stderr.head
    assert cron.tab == "one\n"


KEEP = """
import sys
from pathlib import Path
from workers.admin.crontab import CrontabKeeper
from workers.loop import Loop
from workers.reaper import Reaper

def then(reason):
    print(reason)
    loop.stop()

loop, reaper = Loop(), Reaper()
reaper.attach(loop)
folders = [Path(each) for each in sys.argv[2:]]
CrontabKeeper(loop, reaper, sys.argv[1], {}, folders).keep(then)
loop.run()
"""


def test_crontab_is_kept_in_the_first_place_that_can_be_written(cron: Cron, tmp_path: Path):
    cron.result("one\n")
    (tmp_path / "file").touch()
    argv = [sys.executable, "-c", KEEP, str(cron.folder / "crontab"), str(tmp_path / "file" / "x")]
    nowhere = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "cannot be stored, so it is not replaced" in nowhere.stdout
    argv.append(str(tmp_path / "home" / "kept"))
    second = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert second.stdout == "None\n"
    assert (tmp_path / "home" / "kept" / "crontab-000001").read_text() == "one\n"


def test_timed_out_replacement_leaves_the_old_one(cron: Cron):
    cron.result("one\n")
    cron.fault("hang")
    result = cron.result("two\n", timeout_s=0.5)
    assert (result.code, result.error) == (124, "timeout")
    assert b"in place" in result.stderr.head
    assert cron.tab == "one\n"


def test_ended_replacement_leaves_the_old_one(cron: Cron):
    cron.result("one\n")
    cron.fault("hang")
    with cron.install("two\n") as desk:
        desk.run_until(lambda: [m for m in desk.messages if isinstance(m, Running)])
        desk.send(End(reason="cancelled"))
        assert desk.result().error == "cancelled"
    assert cron.tab == "one\n"


def test_missing_crontab_program_is_127_and_nothing_is_tried(cron: Cron):
    (cron.folder / "crontab").unlink()
    result = cron.result("one\n")
    assert result.code in (126, 127)
    assert cron.tab is None
