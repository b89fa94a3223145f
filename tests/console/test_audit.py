"""The audit log is shown to whoever may read, filtered, with refusals beside successes."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.console.conftest import AUDITOR, OPERATOR, NewPerson


def test_a_refusal_stands_in_the_log(new_person: NewPerson, asset_id: str) -> None:
    assert new_person(OPERATOR).page.goto("/enrolment/add").status == 403
    person = new_person(AUDITOR)
    page = person.show("/audit?action=enrolment.*")
    expect(page.get_by_role("row").filter(has_text=OPERATOR).first).to_contain_text("forbidden")
    person.screenshots("audit")
    page.goto("/audit?action=nothing.like.it")
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
    page.goto(f"/agents/{asset_id}/audit")
    expect(page.get_by_role("link", name="Audit", exact=True).last).to_be_visible()
    assert person.axe() == []
