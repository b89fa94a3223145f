"""One command on several machines: who is away is said, states are live, failed ones rerun."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from sqlalchemy.orm import Session

from hub.agents import service
from hub.operators.service import find_tenant
from tests.console.conftest import MACHINE, OPERATOR, NewPerson
from tests.doubles.hub_process import HubProcess


def test_a_command_runs_on_what_is_chosen_and_failed_ones_run_again(
    hub: HubProcess, new_person: NewPerson, asset_id: str
) -> None:
    def add(session: Session) -> None:
        tenant = find_tenant(session, "default")
        assert tenant is not None
        service.add_asset(session, tenant.id, "box-away")

    hub.write(add)
    person = new_person(OPERATOR)
    page = person.show("/agents?q=box-")
    row = page.get_by_role("row", name=re.compile(MACHINE))
    expect(row.get_by_text("online", exact=True)).to_be_visible()
    for name in (MACHINE, "box-away"):
        page.get_by_label(f"Choose {name}", exact=True).check()
    expect(page.get_by_text("2 chosen", exact=True)).to_be_visible()
    page.get_by_role("button", name="Run a command").click()
    expect(page.get_by_role("heading", name="Run a command on 2 machines")).to_be_visible()
    expect(page.get_by_text("1 of them is away now")).to_be_visible()
    person.screenshots("batch-new")
    page.get_by_label("Command").fill("echo '<b>several</b>'")
    page.get_by_label("Where it is away").select_option("fail")
    page.get_by_role("button", name="Run on 2").click()
    expect(page.get_by_text("2 of 2 ended")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile(MACHINE))).to_contain_text("<b>several</b>")
    expect(page.get_by_role("row", name=re.compile("box-away"))).to_contain_text("failed")
    person.screenshots("batch")
    here = page.url
    page.get_by_role("button", name="Run 1 failed again").click()
    expect(page).not_to_have_url(here)
    expect(page.get_by_role("row")).to_have_count(2)  # the head and the one
