"""Users, one's own account, and device codes."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pyotp
from playwright.sync_api import expect

from hub.authorize import Role
from tests.console.conftest import ADMIN, AUDITOR, PASSWORD, NewPerson, add_person
from tests.doubles.agent_process import JACKLINE
from tests.doubles.hub_process import HubProcess


def test_an_admin_makes_a_user_who_logs_in(new_person: NewPerson) -> None:
    person = new_person(ADMIN)
    page = person.show("/users")
    assert person.axe() == []
    page.get_by_label("Name").fill("neu")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make the user").click()
    expect(page.get_by_role("row", name=re.compile("^neu"))).to_be_visible()
    person.screenshots("users")
    new_person("neu")
    row = page.get_by_role("row", name=re.compile("^neu"))
    row.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("dialog")).to_contain_text("neu cannot log in any more")
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(row.get_by_text("disabled")).to_be_visible()


def test_what_others_do_to_users_is_seen_without_a_reload(
    hub: HubProcess, new_person: NewPerson
) -> None:
    watching, acting = new_person(AUDITOR).show("/users"), new_person(ADMIN).show("/users")
    acting.get_by_label("Name").fill("latecomer")
    acting.get_by_label("Password").fill(PASSWORD)
    acting.get_by_role("button", name="Make the user").click()
    expect(watching.get_by_role("row", name=re.compile("^latecomer"))).to_be_visible()


def test_an_auditor_sees_users_and_can_press_nothing(new_person: NewPerson) -> None:
    page = new_person(AUDITOR).show("/users")
    for button in page.get_by_role("main").get_by_role("button").all():
        expect(button).to_be_disabled()


def test_a_second_factor_is_set_up_and_asked_for(hub: HubProcess, new_person: NewPerson) -> None:
    add_person(hub, "tina", Role.OPERATOR)
    person = new_person("tina")
    page = person.show("/account")
    assert person.axe() == []
    page.locator("#totp-password").fill(PASSWORD)
    page.get_by_role("button", name="Set up").click()
    secret = page.locator("p.mono").inner_text()
    page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("Every log-in needs a code from now on.")).to_be_visible()
    person.screenshots("account")
    page.context.clear_cookies()
    page.goto("/login")
    page.get_by_label("Name").fill("tina")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("one-time code")
    page.get_by_label("Password").fill(PASSWORD)
    # The code that confirmed the set-up is used up: the next one counts already.
    page.get_by_label("One-time code").fill(pyotp.TOTP(secret).at(time.time() + 30))
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("/agents"))


def test_a_device_code_is_looked_at_and_approved(
    hub: HubProcess, new_person: NewPerson, tmp_path: Path
) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"} | {
        f"JACKLINE_{name.upper()}_DIR": str(tmp_path / name)
        for name in ("config", "state", "run", "log")
    }
    waiting = subprocess.Popen(
        [*JACKLINE, "enroll", "--hub", hub.url, "--device"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert waiting.stdout is not None
        code = next(
            found[0]
            for line in waiting.stdout
            if (found := re.search(r"\b[A-Z0-9]{4}-[A-Z0-9]{4}\b", line))
        )
        person = new_person(ADMIN)
        page = person.show(f"/device?code={code}")
        expect(page.get_by_text("an agent, on a machine")).to_be_visible()
        assert person.axe() == []
        person.screenshots("device")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_text("The code is approved.")).to_be_visible()
        assert waiting.wait(60) == 0
    finally:
        waiting.kill()
        waiting.communicate()
