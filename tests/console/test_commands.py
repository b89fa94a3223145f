"""The command panel: asked, followed without a reload, ended, refused."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.console.conftest import AUDITOR, OPERATOR, NewPerson


def test_a_command_waits_for_its_machine_and_is_cancelled(
    new_person: NewPerson, enrolled_id: str
) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{enrolled_id}/commands")
    assert person.axe() == []
    person.screenshots("commands")
    form = page.locator("form", has=page.get_by_role("heading", name="Collect telemetry"))
    form.get_by_label("Samples").fill("3")
    form.get_by_role("button", name="Run").click()
    expect(page.get_by_role("status").get_by_text("requested")).to_be_visible()
    assert person.axe() == []
    person.screenshots("command")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It was cancelled.")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("cancelled")).to_be_visible()


def test_an_auditor_sees_commands_and_can_press_nothing(
    new_person: NewPerson, asset_id: str
) -> None:
    page = new_person(AUDITOR).show(f"/agents/{asset_id}/commands")
    for button in page.get_by_role("button", name="Run").all():
        expect(button).to_be_disabled()
