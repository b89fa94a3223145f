"""A machine is added by the printed line, and turns green; one that waits is approved."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from playwright.sync_api import expect

from tests.console.conftest import ADMIN, AUDITOR, NewPerson
from tests.doubles.agent_process import JACKLINE


def run_line(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the first part of the line to copy, as somebody with directories of their own."""
    enrol = line.split("&&")[0].strip().replace("sudo jackline", shlex.join(JACKLINE))
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)} | {
        f"JACKLINE_{name.upper()}_DIR": str(folder / name)
        for name in ("config", "state", "run", "log")
    }
    return subprocess.run(
        ["/bin/sh", "-c", enrol], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_printed_line_brings_a_machine_in(new_person: NewPerson, tmp_path: Path) -> None:
    person = new_person(ADMIN)
    page = person.show("/enrolment/add")
    person.screenshots("add-agent")
    page.get_by_label("Tags").fill("fileserver berlin")
    page.get_by_role("button", name="Make the line").click()
    expect(page.get_by_text("for the machine to call")).to_be_visible()
    line = page.locator("#line-linux").inner_text()
    assert "--token-stdin" in line
    page.get_by_role("tab", name="Windows").click()
    expect(page.locator("#line-windows")).to_be_visible()
    page.get_by_role("tab", name="Linux").click()
    done = run_line(line, tmp_path)
    assert done.returncode == 0, done.stderr
    expect(page.get_by_text("arrived")).to_be_visible()
    person.screenshots("add-agent-arrived")
    page.goto("/enrolment")
    row = page.get_by_role("row", name=re.compile("1 of 1")).first
    expect(row.get_by_text("used up")).to_be_visible()


def test_a_machine_that_waits_is_approved(new_person: NewPerson, tmp_path: Path) -> None:
    person = new_person(ADMIN)
    page = person.show("/enrolment/add")
    page.get_by_label("Somebody must approve each machine").check()
    page.get_by_role("button", name="Make the line").click()
    assert run_line(page.locator("#line-linux").inner_text(), tmp_path).returncode == 0
    page.goto("/enrolment")
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    person.screenshots("enrolment")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Nobody waits.")).to_be_visible()


def test_an_auditor_sees_enrolment_and_can_press_nothing(new_person: NewPerson) -> None:
    page = new_person(AUDITOR).show("/enrolment")
    expect(page.get_by_role("button", name="Add agent")).to_be_disabled()
    assert page.goto("/enrolment/add").status == 403
