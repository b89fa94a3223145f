"""The list of agents, one agent's overview, the palette; live without a reload."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from sqlalchemy.orm import Session

from hub.agents import service
from tests.console.conftest import MACHINE, OPERATOR, NewPerson
from tests.doubles.agent_process import running_agent
from tests.doubles.hub_process import HubProcess

HOSTILE = '<img src=x onerror=alert(1)>"\x1b[31m\u202e'


def test_the_list_is_searched_filtered_and_readable(
    hub: HubProcess, new_person: NewPerson, asset_id: str
) -> None:
    def add(session: Session) -> None:
        from hub.operators.service import find_tenant

        tenant = find_tenant(session, "default")
        assert tenant is not None
        for name in ("alpha", "beta", HOSTILE):
            service.add_asset(session, tenant.id, name).tags = ["web", "berlin"]

    hub.write(add)
    person = new_person(OPERATOR)
    page = person.show("/agents")
    row = page.get_by_role("row", name=re.compile(MACHINE))
    expect(row.get_by_text("online", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("<img src=x"))).to_be_visible()
    assert person.axe() == []
    person.screenshots("agents")
    page.get_by_label("Search agents").fill("alph")
    expect(page.get_by_role("link", name="beta")).to_have_count(0)
    expect(page.get_by_role("link", name="alpha")).to_be_visible()
    expect(page).to_have_url(re.compile("q=alph"))
    page.get_by_label("Search agents").fill("no such machine")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.goto("/agents?presence=online")
    expect(page.get_by_role("link", name="alpha")).to_have_count(0)


def test_an_agent_goes_and_comes_back_without_a_reload(
    hub: HubProcess, new_person: NewPerson
) -> None:
    config = {"clientId": "flapping", "authToken": hub.add_agent("flapping")}
    page = new_person(OPERATOR).show("/agents")
    row = page.get_by_role("row", name=re.compile("flapping"))
    with running_agent(hub.url, config) as agent:
        expect(row.get_by_text("online", exact=True)).to_be_visible()
        agent.kill()
        expect(row.get_by_text("offline", exact=True)).to_be_visible()
        agent.start()
        expect(row.get_by_text("online", exact=True)).to_be_visible()


def test_the_overview_shows_figures_and_charts(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{asset_id}")
    expect(page.locator("figure canvas").first).to_be_visible()
    expect(
        page.get_by_role("img", name=re.compile("online .* of the last 24 hours"))
    ).to_be_visible()
    page.get_by_label("Tags, separated by spaces").fill("fileserver berlin")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#agent-head").get_by_text("fileserver")).to_be_visible()
    assert person.axe() == []
    person.screenshots("agent")


def test_the_palette_finds_machines_and_tabs(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{asset_id}")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill("box")
    expect(page.get_by_role("option", name=re.compile(MACHINE))).to_be_visible()
    assert person.axe() == []
    person.screenshots("palette")
    page.get_by_role("combobox").fill("inventory")
    expect(page.get_by_role("option", name=re.compile("Inventory"))).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/inventory$"))
