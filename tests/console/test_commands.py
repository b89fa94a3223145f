"""The command panel: asked, followed without a reload, rendered, ended, refused."""

from __future__ import annotations

import json
import re

from playwright.sync_api import expect

from tests.console.conftest import AUDITOR, OPERATOR, NewPerson
from tests.doubles.enrolled import EnrolledAgent


def test_an_inventory_is_collected_and_shown(
    new_person: NewPerson, collector: EnrolledAgent
) -> None:
    person = new_person(OPERATOR)
    machine = f"/agents/{collector.identity['asset_id']}"
    page = person.show(f"{machine}/commands")
    form = page.locator("form", has=page.get_by_role("heading", name="Collect the inventory"))
    form.get_by_role("button", name="Run").click()
    expect(page.get_by_role("status").get_by_text("succeeded")).to_be_visible()
    steps = page.get_by_role("list", name="How far it is")
    for word in ("requested", "accepted", "running", "succeeded"):
        expect(steps.get_by_text(word, exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    raw = page.locator("#raw")
    expect(raw).to_be_hidden()
    page.get_by_text("Raw JSON").click()
    expect(raw).to_contain_text("{")
    person.screenshots("command-succeeded")
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("^Download")).click()
    assert json.loads(download.value.path().read_text())["os"]["hostname"]
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_role("link", name="Collect inventory").first).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="The inventory as tables").click()
    expect(page.get_by_role("term").filter(has_text="hostname")).to_be_visible()
    page.locator("summary", has_text="Users").click()
    with page.expect_response(lambda answer: answer.url.endswith("/inventory")):
        page.evaluate("document.body.dispatchEvent(new CustomEvent('jl:inventory'))")
    expect(page.get_by_role("cell", name="root", exact=True).first).to_be_visible()
    person.screenshots("inventory")


def test_telemetry_is_collected_and_shown_as_numbers(
    new_person: NewPerson, collector: EnrolledAgent
) -> None:
    page = new_person(OPERATOR).show(f"/agents/{collector.identity['asset_id']}/commands")
    form = page.locator("form", has=page.get_by_role("heading", name="Collect telemetry"))
    form.get_by_label("Samples").fill("2")
    form.get_by_role("button", name="Run").click()
    expect(page.get_by_role("status").get_by_text("succeeded")).to_be_visible()
    rows = page.get_by_role("region", name="Table").first.locator(":scope > table > tbody > tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(re.compile(r"\d"))


def test_a_command_waits_for_its_machine_and_is_cancelled(
    new_person: NewPerson, enrolled_id: str
) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{enrolled_id}/commands")
    person.screenshots("commands")
    form = page.locator("form", has=page.get_by_role("heading", name="Collect telemetry"))
    form.get_by_label("Samples").fill("3")
    form.get_by_role("button", name="Run").click()
    expect(page.get_by_role("status").get_by_text("requested")).to_be_visible()
    person.screenshots("command")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It was cancelled.")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("cancelled")).to_be_visible()


def test_an_auditor_sees_commands_and_can_press_nothing(
    new_person: NewPerson, asset_id: str
) -> None:
    page = new_person(AUDITOR).show(f"/agents/{asset_id}/commands")
    for button in page.get_by_role("button", name="Run").all():
        expect(button).to_be_disabled()
