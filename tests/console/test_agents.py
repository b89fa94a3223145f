"""The list of agents, one agent's overview, the palette; live without a reload."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable

from playwright.sync_api import Route, expect
from sqlalchemy.orm import Session

from hub.agents import service
from hub.operators.service import DEFAULT_TENANT, find_tenant
from tests.console.conftest import MACHINE, OPERATOR, NewPerson
from tests.doubles.agent_process import running_agent
from tests.doubles.browser import Person
from tests.doubles.hub_process import ADMIN as ROOT
from tests.doubles.hub_process import PASSWORD, HubProcess, running_hub

GIVEN_UP_MS = 15_000  # a request that nobody gives up ends by itself after 20 s
HOSTILE = '<img src=x onerror=alert(1)>"\x1b[31m\u202e'


def add_machines(session: Session, *names: str) -> None:
    tenant = find_tenant(session, DEFAULT_TENANT)
    assert tenant is not None
    for name in names:
        service.add_asset(session, tenant.id, name).tags = ["web", "berlin"]


def test_the_first_page_says_what_to_do_next(browser: object) -> None:
    with running_hub() as hub:
        person = Person(browser, hub.url)  # type: ignore[arg-type]
        person.log_in(ROOT, PASSWORD)
        page = person.page
        expect(page.get_by_role("heading", name="No machine yet")).to_be_visible()
        person.screenshots("agents-none")
        page.get_by_role("link", name="Show me the line").click()
        expect(page.get_by_role("button", name="Make the line")).to_be_visible()
        hub.add_agent("first")
        person.show("/agents")
        expect(page.get_by_role("heading", name="What next")).to_be_visible()
        page.get_by_role("link", name="Plan a backup").click()
        expect(page.get_by_role("button", name="Plan it")).to_be_visible()
        person.close()


def test_what_is_chosen_stays_chosen_while_the_list_moves(
    new_person: NewPerson, asset_id: str
) -> None:
    page = new_person(OPERATOR).show("/agents")
    row = page.get_by_role("row", name=re.compile(MACHINE))
    expect(row.get_by_text("online", exact=True)).to_be_visible()
    row.get_by_role("checkbox").check()
    with page.expect_response(lambda answer: answer.url.endswith("/agents")):
        page.evaluate("document.body.dispatchEvent(new CustomEvent('jl:stats'))")
    expect(page.get_by_text("1 chosen", exact=True)).to_be_visible()
    expect(row.get_by_role("checkbox")).to_be_checked()


def test_figures_move_without_a_reload(new_person: NewPerson, asset_id: str) -> None:
    page = new_person(OPERATOR).show(f"/agents/{asset_id}")
    expect(page.locator("#now progress").first).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith(f"/agents/{asset_id}")):
        pass  # the agent tells its figures every two seconds, and the page asks for what changed
    expect(page.locator("#now progress").first).to_be_visible()


def test_the_list_is_searched_filtered_and_readable(
    hub: HubProcess, new_person: NewPerson, asset_id: str
) -> None:
    hub.write(lambda session: add_machines(session, "alpha", "beta", HOSTILE))
    person = new_person(OPERATOR)
    page = person.show("/agents")
    row = page.get_by_role("row", name=re.compile(MACHINE))
    expect(row.get_by_text("online", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("<img src=x"))).to_be_visible()
    person.screenshots("agents")
    page.get_by_label("Search agents").fill("alph")
    expect(page.get_by_role("link", name="beta")).to_have_count(0)
    expect(page.get_by_role("link", name="alpha")).to_be_visible()
    expect(page).to_have_url(re.compile("q=alph"))
    page.get_by_label("Search agents").fill("no such machine")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.goto("/agents?presence=online")
    expect(page.get_by_role("link", name="alpha")).to_have_count(0)


def kept_waiting(held: list[Route]) -> Callable[[Route], None]:
    """Return a handler that answers no request; each is put into `held`."""

    def keep(route: Route) -> None:
        held.append(route)

    return keep


def test_the_newest_question_is_answered_whatever_comes_last(
    hub: HubProcess, new_person: NewPerson, asset_id: str
) -> None:
    hub.write(lambda session: add_machines(session, "gamma", "delta"))
    page = new_person(OPERATOR).show("/agents")
    search = page.get_by_label("Search agents")
    page.route(re.compile(r"/agents\?.*q=gam"), kept_waiting([]))
    with page.expect_request(re.compile("q=gam")) as older:
        search.fill("gam")
    with page.expect_event("requestfailed", lambda one: one == older.value, timeout=GIVEN_UP_MS):
        search.fill("delta")  # what nobody waits for any more is given up
    expect(page.get_by_role("link", name="delta")).to_be_visible()
    expect(page.get_by_role("link", name="gamma")).to_have_count(0)
    page.unroute_all()

    search.fill("")
    expect(page.get_by_role("link", name="gamma")).to_be_visible()
    page.route(re.compile("/agents$"), kept_waiting([]))
    with page.expect_request(re.compile("/agents$")) as refresh:
        page.evaluate("document.body.dispatchEvent(new CustomEvent('jl:reconnected'))")
    with page.expect_event("requestfailed", lambda one: one == refresh.value, timeout=GIVEN_UP_MS):
        search.fill("gamma")
    expect(page.get_by_role("link", name="delta")).to_have_count(0)
    page.unroute_all()


def test_what_moves_during_a_question_is_read_again_with_it(
    hub: HubProcess, new_person: NewPerson, asset_id: str
) -> None:
    hub.write(lambda session: add_machines(session, "epsilon", "zeta"))
    page = new_person(OPERATOR).show("/agents")
    held: list[Route] = []
    page.route(re.compile("q=zeta"), kept_waiting(held), times=1)
    with page.expect_request(re.compile("q=zeta")):
        page.get_by_label("Search agents").fill("zeta")
    with page.expect_request(re.compile("/agents")) as again:
        page.evaluate("document.body.dispatchEvent(new CustomEvent('jl:reconnected'))")
        held[0].continue_()
    assert "q=zeta" in again.value.url
    expect(page.get_by_role("link", name="zeta")).to_be_visible()
    expect(page.get_by_role("link", name="epsilon")).to_have_count(0)


def test_the_list_is_exported_and_no_name_is_a_formula(
    hub: HubProcess, new_person: NewPerson, asset_id: str
) -> None:
    hub.write(lambda session: add_machines(session, "=HYPERLINK(1)"))
    page = new_person(OPERATOR).show("/agents?q=HYPERLINK")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert [row["name"] for row in rows] == ["'=HYPERLINK(1)"]


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
    person.screenshots("agent")


def test_the_palette_finds_machines_and_tabs(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    page = person.show(f"/agents/{asset_id}")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill("box")
    expect(page.get_by_role("option", name=re.compile(MACHINE))).to_be_visible()
    person.screenshots("palette")
    page.get_by_role("combobox").fill("inventory")
    expect(page.get_by_role("option", name=re.compile("Inventory"))).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/inventory$"))
