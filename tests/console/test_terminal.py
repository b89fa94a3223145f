"""The terminal: typed into, resized, there again after a reload, watched, played."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from tests.console.conftest import AUDITOR, OPERATOR, NewPerson
from tests.doubles.browser import WAIT_MS, Person
from tests.doubles.hub_process import HubProcess

HUB_AWAY = re.compile(r"WebSocket connection to|ERR_CONNECTION_|Failed to fetch")


def open_terminal(person: Person, asset_id: str) -> Page:
    page = person.show(f"/agents/{asset_id}/shell?new=1")
    expect(page.locator("#shell-state")).to_have_text("open")
    return page


def type_line(page: Page, line: str) -> None:
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type(line)
    page.keyboard.press("Enter")


def screen(page: Page) -> str:
    """Return every line that the terminal holds."""
    text: str = page.evaluate(
        """() => {
            const buffer = document.querySelector('[data-terminal]').screen.term.buffer.active;
            const line = (_, at) => buffer.getLine(at).translateToString(true);
            return Array.from({ length: buffer.length }, line).join('\\n');
        }"""
    )
    return text


def until_shown(page: Page, text: str) -> None:
    """Wait for a text; a function that the page would have to compile is against its policy."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while text not in (shown := screen(page)):
        assert time.monotonic() < deadline, f"{text!r} never came; shown:\n{shown.strip()}"
        page.wait_for_timeout(50)


def test_a_terminal_echoes_resizes_and_comes_back_after_a_reload(
    new_person: NewPerson, asset_id: str
) -> None:
    person = new_person(OPERATOR)
    page = open_terminal(person, asset_id)
    type_line(page, "echo first-$((40+2))")
    until_shown(page, "first-42")
    page.set_viewport_size({"width": 800, "height": 700})
    type_line(page, "echo cols=$(stty size | cut -d' ' -f2)=")
    cols = page.evaluate("document.querySelector('[data-terminal]').screen.term.cols")
    until_shown(page, f"cols={cols}=")
    person.screenshots("terminal")
    assert person.axe() == []
    expect(page).to_have_url(re.compile(f"/agents/{asset_id}/shell/"))
    page.reload()
    until_shown(page, "first-42")
    type_line(page, "echo after-$((1+1))")
    until_shown(page, "after-2")
    page.get_by_role("button", name="End session").click()
    expect(page.locator("#shell-state")).to_have_text("ended")


def test_somebody_watches_and_cannot_type(new_person: NewPerson, asset_id: str) -> None:
    writer = new_person(OPERATOR)
    page = open_terminal(writer, asset_id)
    type_line(page, "echo shared-$((2*21))")
    until_shown(page, "shared-42")
    watcher = new_person(AUDITOR)
    view = watcher.show(page.url.replace(watcher.url, ""))
    until_shown(view, "shared-42")
    expect(view.get_by_text("read-only")).to_be_visible()
    expect(view.get_by_role("button", name="End session")).to_be_disabled()
    view.locator(".xterm-helper-textarea").focus()
    view.keyboard.type("echo intruder")
    type_line(page, "echo done-$((3*3))")
    until_shown(view, "done-9")
    assert "intruder" not in screen(page)


def test_output_that_asks_for_an_answer_gets_none(new_person: NewPerson, asset_id: str) -> None:
    page = open_terminal(new_person(OPERATOR), asset_id)
    type_line(page, r"printf '\033]52;c;aGVsbG8=\a\033]10;?\a\033P$qm\033\\\033[21t\033[>c'")
    type_line(page, "echo asked-$((6*7))")
    until_shown(page, "asked-42")
    type_line(page, "echo clean-$((5*5))")
    until_shown(page, "clean-25")
    assert "rgb:" not in screen(page)


def test_a_terminal_survives_the_hub(hub: HubProcess, new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    page = open_terminal(person, asset_id)
    type_line(page, "echo before-$((8*8))")
    until_shown(page, "before-64")
    hub.kill()
    expect(page.locator("#shell-state")).to_have_text("reconnecting")
    hub.start()
    expect(page.locator("#shell-state")).to_have_text("open")
    until_shown(page, "before-64")
    type_line(page, "echo behind-$((9*9))")
    until_shown(page, "behind-81")
    # A page also asks for its parts now and then: each of these is a hub that was away.
    person.faults[:] = [fault for fault in person.faults if not HUB_AWAY.search(fault)]


def test_a_session_is_played_again(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(OPERATOR)
    page = open_terminal(person, asset_id)
    type_line(page, "echo recorded-$((7*7))")
    until_shown(page, "recorded-49")
    type_line(page, "exit")
    expect(page.locator("#shell-state")).to_have_text("ended")
    page.goto("/sessions")
    assert person.axe() == []
    person.screenshots("sessions")
    page.get_by_role("link", name="Play").first.click()
    expect(page.locator(".ap-term-text")).to_contain_text("recorded-49")
    person.screenshots("session")
