"""Alerts: what is wrong is shown at once, looked after, and resolved without a reload."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.console.conftest import ADMIN, AUDITOR, NewPerson


def test_nothing_is_wrong_and_an_auditor_can_press_nothing(new_person: NewPerson) -> None:
    person = new_person(AUDITOR)
    page = person.show("/alerts")
    expect(page.get_by_role("heading", name="Where they are sent")).to_be_visible()
    for button in page.get_by_role("main").get_by_role("button").all():
        expect(button).to_be_disabled()
    person.screenshots("alerts")


def test_a_target_is_saved_and_its_secret_is_not_shown(new_person: NewPerson) -> None:
    person = new_person(ADMIN)
    page = person.show("/alerts")
    page.get_by_label("Address").fill("json://127.0.0.1:1/hook-with-a-secret")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(re.compile("^Now:"))).to_be_visible()
    assert "hook-with-a-secret" not in page.content()
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("alert")).to_contain_text("did not take")
