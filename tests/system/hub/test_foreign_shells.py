"""Shells of an agent of another make through the real hub: the plain contract, no extension.

Contract 1.2, 1.3: text output, no offsets, no credit; what our consoles are given is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.authorize import Role
from tests.doubles.console_socket import ConsoleSocket, console
from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.operator_desk import asset_of, node_agent


class Site:
    """A hub with a Node agent, and an operator of it."""

    def __init__(self, hub: HubProcess) -> None:
        self.hub = hub
        self.token = hub.add_user("otto", Role.OPERATOR)
        self.asset_id = asset_of(hub, "node-1")

    def until_linked(self) -> None:
        path = f"/api/v1/agents/{self.asset_id}"
        self.hub.until(lambda: (self.hub.get(path, self.token)[1] or {}).get("link"))

    def session(self, session_id: str) -> dict[str, object]:
        status, found = self.hub.get(f"/api/v1/shells/{session_id}", self.token)
        assert status == 200, found
        return dict(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("node")
    with running_hub() as hub, node_agent(hub, folder, "node-1"):
        made = Site(hub)
        made.until_linked()
        yield made
        assert "Traceback" not in hub.log(), hub.log()[-3000:]


@pytest.fixture
def desk(site: Site) -> Iterator[ConsoleSocket]:
    with console(site.hub.url, site.token) as made:
        yield made


def test_a_shell_answers_has_its_size_and_its_code_comes_back(
    site: Site, desk: ConsoleSocket
) -> None:
    session = desk.shell(site.asset_id)
    desk.type(session, "echo grüße-$((6*7)); stty size\n")
    desk.until_output(session, "grüße-42\r\n24 80\r\n")
    desk.call("shell_resize", session=session, cols=101, rows=33)
    desk.type(session, "stty size\n")
    desk.until_output(session, "33 101\r\n")
    desk.type(session, "exit 7\n")
    ended = desk.until_event("shell_closed", session=session)
    assert (ended["reason"], ended["code"]) == ("exit", 7)
    row = site.hub.until(lambda: _if_ended(site, session))
    assert (row["reason"], row["code"]) == ("exit", 7)
    status, cast = site.hub.get(f"/api/v1/shells/{session}/recording", site.token)
    assert status == 200 and "33 101" in str(cast)


def _if_ended(site: Site, session: str) -> dict[str, object] | None:
    found = site.session(session)
    return found if found["state"] == "ended" and found["recording"] != "open" else None


def test_a_paste_over_its_librarys_limit_arrives_whole_and_in_order(
    site: Site, desk: ConsoleSocket
) -> None:
    session = desk.shell(site.asset_id)
    text = "".join(f'{number:06} "ü\\" \t\n' for number in range(9000))
    size = len(text.encode())
    assert size > 4 * 32 * 1024
    desk.type(session, f"stty raw; echo go; head -c {size} | sha256sum; stty sane -echo\n")
    desk.until_output(session, "go\n")
    desk.type(session, text)
    desk.until_output(session, hashlib.sha256(text.encode()).hexdigest())
    desk.call("shell_close", session=session)
    desk.until_event("shell_closed", session=session)


def test_long_output_comes_whole_and_an_observer_sees_it(site: Site, desk: ConsoleSocket) -> None:
    session = desk.shell(site.asset_id)
    with console(site.hub.url, site.token) as second:
        assert "error" not in second.attach(session, "shell_observe")
        desk.type(session, "seq 1 50000; echo en''d\n")
        numbers = "".join(f"{number}\r\n" for number in range(1, 50_001))
        for one in (desk, second):
            assert numbers in one.until_output(session, "end\r\n")
    desk.call("shell_close", session=session)
    ended = desk.until_event("shell_closed", session=session)
    assert ended["reason"] in ("closed", "exit")


def test_a_reload_and_a_restart_of_the_hub_find_the_shell_again(site: Site) -> None:
    with console(site.hub.url, site.token) as first:
        session = first.shell(site.asset_id)
        first.type(session, "mark=kept; echo be''fore\n")
        first.until_output(session, "before\r\n")
        screens = first.screens
    with console(site.hub.url, site.token) as second:
        second.screens = screens
        assert "error" not in second.attach(session)
        site.hub.kill()
        site.hub.start()
        site.until_linked()
        second.connect()
        assert "error" not in second.attach(session)
        second.type(session, "echo still-$mark\n")
        second.until_output(session, "still-kept\r\n")
        second.call("shell_close", session=session)
        second.until_event("shell_closed", session=session)
