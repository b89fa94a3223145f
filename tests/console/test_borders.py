"""What every page has in common: its policy, its weight, who may press what, whose site may ask."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import socketio
from playwright.sync_api import expect

from tests.console.conftest import ADMIN, AUDITOR, OPERATOR, NewPerson
from tests.doubles.browser import Person
from tests.doubles.hub_process import HubProcess

PAGES = ("/agents", "/sessions", "/enrolment", "/alerts", "/audit", "/users", "/account")
TABS = (
    *("", "/activity", "/commands", "/shell", "/backups", "/cron", "/keys", "/workers"),
    *("/inventory", "/audit"),
)
OF_ONESELF = {"End", "Change", "Set up", "Log out"}
MAX_TRANSFER = 350 * 1024


def transferred(person: Person, paths: Iterable[str]) -> dict[str, int]:
    """Return how many bytes each page and what it loads took on the way, nothing kept before."""
    session = person.context.new_cdp_session(person.page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    sizes: list[int] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    found = {}
    for path in paths:
        sizes.clear()
        person.show(path)
        person.settle()
        found[path] = int(sum(sizes))
    return found


def test_an_auditor_sees_every_page_and_can_change_nothing(
    new_person: NewPerson, asset_id: str
) -> None:
    person = new_person(AUDITOR)
    for path in (*PAGES, *(f"/agents/{asset_id}{tab}" for tab in TABS)):
        page = person.show(path)
        expect(page.get_by_role("main")).to_be_visible()
        pressable = page.locator("main form[method=post] button:not([disabled])")
        words = {one.inner_text() for one in pressable.all()}
        assert words - (OF_ONESELF if path == "/account" else set()) == set(), path


def test_every_page_is_accessible_and_breaks_no_policy(
    new_person: NewPerson, asset_id: str
) -> None:
    person = new_person(ADMIN)
    tabs = (f"/agents/{asset_id}{tab}" for tab in TABS)
    for path in (*PAGES, "/device", "/enrolment/add", *tabs):
        person.show(path)
        person.settle()
        assert person.axe() == [], path
    assert person.faults == []


def test_a_breach_of_the_policy_is_heard(new_person: NewPerson) -> None:
    person = new_person(OPERATOR)
    person.show("/agents").evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'document.title = "broken"';
            document.body.append(script);
        }"""
    )
    assert person.page.title() != "broken"
    assert any("script-src" in fault for fault in person.faults)
    person.faults.clear()


def test_every_page_but_the_terminal_is_light(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    paths = (*PAGES, "/device", *(f"/agents/{asset_id}{tab}" for tab in TABS if tab != "/shell"))
    weights = transferred(person, paths)
    assert min(weights.values()) > 64 * 1024  # with its scripts and styles
    assert {path: bytes_ for path, bytes_ in weights.items() if bytes_ > MAX_TRANSFER} == {}


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", ""],
)
def test_a_foreign_origin_with_the_cookie_is_refused(
    hub: HubProcess, new_person: NewPerson, origin: str
) -> None:
    cookies = new_person(OPERATOR).context.cookies()
    cookie = "; ".join(f"{one['name']}={one['value']}" for one in cookies)
    headers = {"Cookie": cookie} | ({"Origin": origin} if origin else {})
    client = socketio.SimpleClient(websocket_extra_options={"suppress_origin": True})
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(hub.url, headers=headers, namespace="/console", transports=["websocket"])


def test_a_form_from_another_site_changes_nothing(hub: HubProcess, new_person: NewPerson) -> None:
    person = new_person(OPERATOR)
    answer = person.context.request.post(
        "/account/tokens", form={"label": "x"}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status == 403
    assert "bad_origin" in answer.text() or "another site" in answer.text()
