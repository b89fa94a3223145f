"""Workers, crontab and keys of a machine: looked at, changed after a look at the difference."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.console.conftest import ADMIN, OPERATOR, NewPerson
from tests.doubles.agent_process import AgentProcess
from tests.facilities import require, require_root


def test_a_worker_is_restarted_and_the_link_stays(
    new_person: NewPerson, asset_id: str, agent: AgentProcess
) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{asset_id}/workers")
    row = page.get_by_role("row", name=re.compile("^telemetry"))
    expect(row).to_be_visible()
    person.screenshots("workers")
    up_since = agent.ask("status")["link"]["since"]
    pid = row.locator("td[data-label=Pid]").inner_text()
    row.get_by_role("button", name="Restart").click()
    page.get_by_role("dialog").get_by_role("button", name="Restart").click()
    expect(row.locator("td[data-label=Pid]")).not_to_have_text(pid)
    assert agent.ask("status")["link"]["since"] == up_since


@pytest.fixture
def own_crontab() -> Iterator[str]:
    """The machine's real crontab is edited: it is put back."""
    require_root()
    require("crontab")
    program = shutil.which("crontab") or "/usr/bin/crontab"
    before = subprocess.run([program, "-l"], capture_output=True, text=True, check=False)
    yield program
    if before.returncode == 0:
        subprocess.run([program, "-"], input=before.stdout, text=True, check=True)
    else:
        subprocess.run([program, "-r"], capture_output=True, check=False)


def test_a_crontab_is_edited_with_a_diff_and_undone(
    new_person: NewPerson, asset_id: str, own_crontab: str
) -> None:
    person = new_person(ADMIN)
    page = person.show(f"/agents/{asset_id}/cron")
    page.get_by_role("button", name="Read it now").click()
    expect(page.get_by_text("Reading the crontab: succeeded")).to_be_visible()
    page.get_by_label("The crontab as text").fill("17 3 * * 1 /bin/true\n")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("ins").get_by_text("17 3 * * 1 /bin/true")).to_be_visible()
    expect(page.get_by_text("Monday")).to_be_visible()
    person.screenshots("cron")
    page.get_by_role("button", name="Save it on the machine").click()
    expect(page.get_by_text("Saving the crontab: succeeded")).to_be_visible()
    page.get_by_role("button", name="Bring it back").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Bring it back").click()
    expect(page.get_by_text("Saving the crontab: succeeded")).to_be_visible()
    expect(page.get_by_label("The crontab as text")).not_to_have_value(re.compile("17 3"))
