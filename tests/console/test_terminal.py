"""The terminal: typed into, resized, there again after a reload, watched, played."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from tests.console.conftest import ADMIN, AUDITOR, OPERATOR, NewPerson
from tests.doubles.agent_process import AgentProcess
from tests.doubles.browser import HUB_AWAY, WAIT_MS, Person
from tests.doubles.hub_process import HubProcess
from tests.doubles.operator_desk import linked


def open_terminal(person: Person, asset_id: str) -> Page:
    page = person.show(f"/agents/{asset_id}/shell?new=1")
    expect(page.locator("#shell-state")).to_have_text("open")
    return page


def end_session(page: Page) -> None:
    page.get_by_role("button", name="End session").click()
    page.get_by_role("dialog").get_by_role("button", name="End session").click()
    expect(page.locator("#shell-state")).to_have_text("ended")


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
    expect(page).to_have_url(re.compile(f"/agents/{asset_id}/shell/"))
    page.reload()
    until_shown(page, "first-42")
    type_line(page, "echo after-$((1+1))")
    until_shown(page, "after-2")
    end_session(page)


def test_somebody_watches_and_cannot_type(new_person: NewPerson, asset_id: str) -> None:
    writer = new_person(OPERATOR)
    page = open_terminal(writer, asset_id)
    type_line(page, "echo shared-$((2*21))")
    until_shown(page, "shared-42")
    watcher = new_person(AUDITOR)
    view = watcher.show(page.url.replace(watcher.url, ""))
    until_shown(view, "shared-42")
    expect(view.get_by_text("read-only")).to_be_visible()
    expect(page.get_by_text("1 watching")).to_be_visible()
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
    person.screenshots("sessions")
    page.get_by_role("link", name="Play").first.click()
    expect(page.locator(".ap-term-text")).to_contain_text("recorded-49")
    person.screenshots("session")


def test_a_neighbours_worker_is_restarted_beside_a_live_terminal(
    new_person: NewPerson, asset_id: str, agent: AgentProcess
) -> None:
    page = open_terminal(new_person(OPERATOR), asset_id)
    type_line(page, "echo beside-$((6*6)); state=kept")
    until_shown(page, "beside-36")
    since = agent.ask("status")["link"]["since"]
    neighbours = new_person(OPERATOR).show(f"/agents/{asset_id}/workers")
    row = neighbours.get_by_role("row", name=re.compile("^telemetry"))
    pid = row.locator("td[data-label=Pid]").inner_text()
    row.get_by_role("button", name="Restart").click()
    neighbours.get_by_role("dialog").get_by_role("button", name="Restart").click()
    expect(row.locator("td[data-label=Pid]")).not_to_have_text(pid)
    type_line(page, "echo $state-$((7*7))")
    until_shown(page, "kept-49")
    expect(page.locator("#shell-state")).to_have_text("open")
    assert agent.ask("status")["link"]["since"] == since


def test_a_terminal_says_that_its_agent_is_away_and_goes_on(
    new_person: NewPerson, asset_id: str, agent: AgentProcess
) -> None:
    page = open_terminal(new_person(OPERATOR), asset_id)
    type_line(page, "state=survived; echo ready-$((2*2))")
    until_shown(page, "ready-4")
    agent.kill()
    expect(page.locator("#shell-state")).to_have_text("agent offline")
    linked(agent.start())
    expect(page.locator("#shell-state")).to_have_text("open")
    type_line(page, "echo $state-$((3*3))")
    until_shown(page, "survived-9")


def paste(page: Page, text: str) -> None:
    """Paste as a browser does: what the clipboard holds is the event's."""
    page.evaluate(
        """(text) => {
            const clipboardData = new DataTransfer();
            clipboardData.setData('text/plain', text);
            const init = { clipboardData, bubbles: true, cancelable: true };
            const target = document.querySelector('.xterm-helper-textarea');
            target.dispatchEvent(new ClipboardEvent('paste', init));
        }""",
        text,
    )


def test_a_paste_of_several_lines_asks_and_cannot_end_its_brackets(
    new_person: NewPerson, asset_id: str
) -> None:
    page = open_terminal(new_person(OPERATOR), asset_id)
    type_line(page, "cat -v")
    paste(page, "harmless-\x1b[201~\x1b[20\x1b[201~1~one")
    until_shown(page, "harmless-[201~[20[201~1~one")
    paste(page, "first-line\nsecond-line\n")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("3 lines go to the terminal")
    dialog.get_by_role("button", name="Keep it as it is").click()
    assert "first-line" not in screen(page)
    paste(page, "third-line\nfourth-line\n")
    dialog.get_by_role("button", name="Paste").click()
    until_shown(page, "fourth-line")
    assert "first-line" not in screen(page)


def test_output_is_searched(new_person: NewPerson, asset_id: str) -> None:
    page = open_terminal(new_person(OPERATOR), asset_id)
    type_line(page, "echo needle-$((4*4))")
    until_shown(page, "needle-16")
    page.get_by_label("Search in the output").fill("needle-16")
    selection = "document.querySelector('[data-terminal]').screen.term.getSelection()"
    assert page.evaluate(selection) == "needle-16"


HOSTILE = (
    r"\033]0;title\a\033]2;title\a\033]52;c;aGVsbG8=\a\033]10;?\a\033]11;?\a\033P$qm\033\\"
    r"\033[21t\033[6n\033[c\033[>c\033[=c\033[?6n"
    r"\033]8;;javascript:alert(1)\a\033]8;;\a"
)


def test_a_recording_of_hostile_output_sends_nothing_to_anybody(
    new_person: NewPerson, asset_id: str
) -> None:
    page = open_terminal(new_person(OPERATOR), asset_id)
    type_line(page, f"printf '{HOSTILE}'; echo over-$((9*5))")
    until_shown(page, "over-45")
    end_session(page)
    viewer = new_person(AUDITOR)
    sent: list[str] = []
    viewer.page.on(
        "websocket", lambda socket: socket.on("framesent", lambda data: sent.append(str(data)))
    )
    viewer.show("/sessions").get_by_role("link", name="Play").first.click()
    expect(viewer.page.locator(".ap-term-text")).to_contain_text("over-45")
    assert not [frame for frame in sent if "shell_" in frame]
    assert "title" not in viewer.page.title()
    expect(viewer.page.locator('a[href^="javascript"]')).to_have_count(0)


def test_links_in_output_open_http_alone(new_person: NewPerson, asset_id: str) -> None:
    page = open_terminal(new_person(OPERATOR), asset_id)
    opened = page.evaluate(
        """() => {
            const opened = [];
            window.open = (address) => { opened.push(address); return null; };
            const term = document.querySelector('[data-terminal]').screen.term;
            const click = new MouseEvent('click', { cancelable: true });
            for (const address of ['javascript:alert(1)', 'data:text/html,x', 'https://example.org/'])
                term.options.linkHandler.activate(click, address);
            return opened;
        }"""
    )
    assert opened == ["https://example.org/"]


def test_a_new_session_appears_in_the_list_without_a_reload(
    new_person: NewPerson, asset_id: str
) -> None:
    listed = new_person(AUDITOR).show("/sessions")
    rows = listed.locator("tbody tr")
    expect(listed.get_by_role("heading", name="Sessions", exact=True)).to_be_visible()
    expect(listed.get_by_text("Not connected")).to_be_hidden()
    before = rows.count()
    open_terminal(new_person(OPERATOR), asset_id)
    expect(rows).to_have_count(before + 1)
    expect(rows.first.get_by_text("open", exact=True)).to_be_visible()


def test_a_second_terminal_is_a_tab_beside_the_first(new_person: NewPerson, asset_id: str) -> None:
    person = new_person(ADMIN)
    page = open_terminal(person, asset_id)
    type_line(page, "echo one-$((1+0))")
    until_shown(page, "one-1")
    first = page.url
    page.get_by_role("link", name="New session").click()
    expect(page.locator("#shell-state")).to_have_text("open")
    tabs = page.get_by_role("navigation", name="Your open terminals").get_by_role("link")
    expect(tabs).to_have_count(2)
    expect(tabs.locator("xpath=self::*[@aria-current='page']")).to_have_count(1)
    tabs.locator(f"xpath=self::*[@href='{first.removeprefix(person.url)}']").click()
    page.wait_for_url(first)
    expect(page.locator("#shell-state")).to_have_text("open")
    until_shown(page, "one-1")
