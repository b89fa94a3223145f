"""The frame around every page: logging in and out, refusals, themes, the palette's keys."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from playwright.sync_api import expect

from tests.console.conftest import OPERATOR, PASSWORD, NewPerson
from tests.doubles.browser import HUB_AWAY, Person
from tests.doubles.hub_process import HubProcess


def test_a_page_asks_to_log_in_and_comes_back(
    hub: HubProcess, browser: object, asset_id: str
) -> None:
    person = Person(browser, hub.url)  # type: ignore[arg-type]
    person.show(f"/agents/{asset_id}/activity")
    expect(person.page).to_have_url(re.compile("/login\\?next="))
    person.page.get_by_label("Name").fill(OPERATOR)
    person.page.get_by_label("Password").fill("wrong")
    person.page.get_by_role("button", name="Log in").click()
    expect(person.page.get_by_role("alert")).to_have_text("Wrong name, password or one-time code.")
    person.screenshots("login")
    person.page.get_by_label("Password").fill(PASSWORD)
    person.page.get_by_role("button", name="Log in").click()
    expect(person.page).to_have_url(re.compile(f"/agents/{asset_id}/activity$"))
    person.close()


def test_another_machine_is_not_here(new_person: NewPerson) -> None:
    person = new_person(OPERATOR)
    page = person.show("/agents/no-such-machine/activity")
    expect(page.get_by_role("heading", name="Not here")).to_be_visible()
    assert person.axe() == []


def test_a_chosen_theme_stays(new_person: NewPerson, asset_id: str) -> None:
    page = new_person(OPERATOR).show(f"/agents/{asset_id}/activity")
    page.get_by_role("button", name=OPERATOR).click()
    page.get_by_role("button", name="Dark").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("heading", name="Upcoming and running")).to_be_visible()


def test_no_script_of_a_page_is_there_twice(new_person: NewPerson, asset_id: str) -> None:
    page = new_person(OPERATOR).show(f"/agents/{asset_id}/shell")
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    scripts = [one.partition("?")[0].rpartition("/")[2] for one in loaded if ".js" in one]
    assert {"console.js", "terminal.js", "htmx.js"} <= set(scripts)
    assert sorted(scripts) == sorted(set(scripts))


def test_activity_is_readable(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    person.show(f"/agents/{asset_id}/activity")
    person.screenshots("activity")


def test_a_page_is_there_again_after_an_orderly_restart_of_the_hub(
    hub: HubProcess, new_person: NewPerson, asset_id: str
) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{asset_id}/workers")
    expect(page.get_by_role("row", name=re.compile("^telemetry"))).to_be_visible()
    hub.stop()
    expect(page.get_by_text("Not connected to the hub")).to_be_visible()
    hub.start()
    expect(page.get_by_text("Not connected to the hub")).to_be_hidden()
    expect(page.get_by_role("row", name=re.compile("^telemetry"))).to_be_visible()
    expect(page.get_by_text("The hub did not answer")).to_have_count(0)
    person.faults[:] = [fault for fault in person.faults if not HUB_AWAY.search(fault)]


def test_times_are_the_viewers_and_the_exact_utc_is_at_hand(
    hub: HubProcess, browser: object, asset_id: str
) -> None:
    person = Person(browser, hub.url, timezone_id="Asia/Tokyo", locale="en-GB")  # type: ignore[arg-type]
    person.log_in(OPERATOR, PASSWORD)
    page = person.show(f"/agents/{asset_id}")
    seen = page.locator("dd time").first
    expect(seen).to_have_text(re.compile("now|ago"))
    local, utc = str(seen.get_attribute("title")).split("\n")
    assert utc.endswith("Z")
    then = datetime.fromisoformat(utc).astimezone(ZoneInfo("Asia/Tokyo"))
    assert then.strftime("%H:%M:%S") in local
    person.close()
