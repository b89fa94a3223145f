"""What a machine is made of, and what has changed in it since."""

from __future__ import annotations

import re
from typing import Any

import httpx
from playwright.sync_api import expect

from tests.console.conftest import AUDITOR, NewPerson
from tests.doubles.hub_process import HubProcess
from tests.doubles.simulated_agent import SimulatedAgent, inventory


def enrolled(hub: HubProcess, name: str) -> SimulatedAgent:
    """Return a machine that has a credential of the heartbeat link."""
    agent = SimulatedAgent(name)
    token = hub.command("token", "create", "--quiet").stdout.strip()
    answer = httpx.post(f"{hub.url}/api/v1/agents/enroll", json=agent.request(token))
    agent.believe(answer.raise_for_status().content)
    return agent


def beat(hub: HubProcess, agent: SimulatedAgent, made: tuple[dict[str, Any], str]) -> None:
    """Send a beat with an inventory."""
    body = agent.beat(inventory=made[0], inventory_digest=made[1])
    url = f"{hub.url}/api/v1/agents/heartbeat"
    httpx.post(url, json=body, headers=agent.headers).raise_for_status()


def test_what_has_changed_is_shown_without_a_reload_and_between_any_two(
    hub: HubProcess, new_person: NewPerson
) -> None:
    agent = enrolled(hub, "inventoried")
    beat(hub, agent, inventory("vim=9.0", nginx="running"))
    person = new_person(AUDITOR)
    page = person.show(f"/agents/{agent.me.asset_id}/inventory")
    expect(page.locator("summary", has_text="Packages")).to_be_visible()
    heading = page.get_by_role("heading", name="Changes since the version before")
    expect(heading).to_have_count(0)

    beat(hub, agent, inventory("vim=9.0", "curl=8.5", nginx="failed"))
    expect(heading).to_be_visible()
    added, removed = page.locator(".diff ins"), page.locator(".diff del")
    expect(added.filter(has_text="packages: curl 8.5")).to_be_visible()
    expect(removed.filter(has_text="services: nginx running")).to_be_visible()
    expect(added.filter(has_text="services: nginx failed")).to_be_visible()
    expect(page.locator(".diff")).not_to_contain_text("vim")
    person.screenshots("inventory-changed")

    beat(hub, agent, inventory("curl=8.5", nginx="failed"))
    expect(removed.filter(has_text="packages: vim")).to_contain_text("9.0")
    expect(added).to_have_count(0)
    older = page.get_by_label("Version").get_by_role("option").nth(1)
    page.get_by_label("Version").select_option(older.get_attribute("value"))
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("version="))
    expect(added.filter(has_text="packages: curl")).to_be_visible()
