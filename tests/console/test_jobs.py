"""Allow-listed commands: run with their output, refused with the reason."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.console.conftest import OPERATOR, NewPerson


def test_a_command_runs_and_shows_its_output(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{asset_id}/commands")
    page.get_by_label("Command", exact=True).fill("echo 'hello <b>there</b>'")
    page.locator("form", has=page.get_by_label("Command", exact=True)).get_by_role(
        "button", name="Run"
    ).click()
    expect(page.get_by_role("status").get_by_text("succeeded")).to_be_visible()
    expect(page.locator("#stdout")).to_have_text("hello <b>there</b>")
    person.screenshots("job")
    page.goto(f"/agents/{asset_id}/activity")
    expect(page.locator("#activity").get_by_role("link", name="Command").first).to_be_visible()
    person.screenshots("activity")


def test_a_refused_command_says_why(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{asset_id}/commands")
    page.get_by_label("Command", exact=True).fill("rm -rf /nothing")
    page.locator("form", has=page.get_by_label("Command", exact=True)).get_by_role(
        "button", name="Run"
    ).click()
    expect(page.get_by_role("status").get_by_text("failed")).to_be_visible()
    expect(page.get_by_text("code 126")).to_be_visible()
    expect(page.locator("#stderr")).to_contain_text("allowedCommands")
    person.screenshots("job-refused")
