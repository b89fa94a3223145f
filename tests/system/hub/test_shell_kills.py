"""Shells through kills of hub and agent: nothing lost, nothing doubled, nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from hub.authorize import Role
from hub.operators.models import User
from hub.shell import cast
from hub.shell.models import ShellSession
from tests.doubles.console_socket import ConsoleSocket
from tests.doubles.hub_site import HubSite, hub_site

COUNTING = (
    "for i in $(seq 0 {}); do seq -f 'line %g' ${{i}}00 ${{i}}99; sleep {}; done; echo en''d\n"
)


@pytest.fixture(scope="module")
def standing() -> Iterator[HubSite]:
    with hub_site() as made:
        yield made


@pytest.fixture
def site(standing: HubSite) -> HubSite:
    """A hub and an agent that both run, whatever the test before did."""
    if not standing.hub.is_running:
        standing.hub.start()
    standing.await_link()
    return standing


def counting(hundreds: int, pause_s: float = 0.05) -> str:
    return COUNTING.format(hundreds - 1, pause_s)


def lines(hundreds: int) -> str:
    return "".join(f"line {number}\r\n" for number in range(hundreds * 100)) + "end\r\n"


def is_longer(console: ConsoleSocket, session: str, size: int) -> bool:
    return len(console.output(session)) > size


def come_back(site: HubSite, console: ConsoleSocket, sessions: list[str]) -> None:
    """What a console does whose hub was killed: connect again, attach where it stood."""
    console.until(lambda: not console.is_up)
    site.hub.start()
    console.connect()
    for session in sessions:
        reply = console.attach(session)
        assert "error" not in reply, reply


@pytest.mark.family("hub")
def test_shells_survive_kills_of_the_hub_without_a_byte_lost_or_doubled(
    site: HubSite, soak: bool
) -> None:
    # A console that is away for longer than the hub's replay lasts is told of a gap instead.
    kills, hundreds, pause_s = (20, 250, 0.2) if soak else (2, 100, 0.05)
    moments = random.Random(4)
    with site.console() as console:
        sessions = [console.shell(site.asset_id) for _ in range(3)]
        for session in sessions:
            console.type(session, counting(hundreds, pause_s))
        for _ in range(kills):
            seen = moments.randrange(200, 800) + min(
                len(console.output(session)) for session in sessions
            )
            console.until(partial(is_longer, console, sessions[0], seen))
            site.hub.kill()
            come_back(site, console, sessions)
        for session in sessions:
            text = console.until_output(session, "end\r\n")
            assert console.screens[session].gaps == []
            assert lines(hundreds) in text
            console.type(session, "exit 5\n")
            console.until_event("shell_closed", session=session, code=5)
    for session in sessions:
        row = site.until_ended(session)
        assert (row["reason"], row["code"]) == ("exit", 5)
        _, recorded = site.hub.get(f"/api/v1/shells/{session}/recording", site.token)
        _, events = cast.read(recorded.encode().splitlines(keepends=True))
        assert cast.outputs(events) == console.output(session)


def test_a_shell_that_ends_while_the_hub_is_away_is_reported_as_it_ended(
    site: HubSite, tmp_path: Path
) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
        gone = tmp_path / "gone"
        console.type(session, f"sleep 0.5; (sleep 0.1; touch {gone}) & exit 9\n")
        console.call("shell_ack", session=session, offset=0)
        site.hub.kill()
        site.agent.until(gone.exists)
        console.until(lambda: not console.is_up)
        site.hub.start()
    row = site.until_ended(session)
    assert (row["reason"], row["code"]) == ("exit", 9)


def test_a_shell_that_the_hub_no_longer_knows_is_closed(site: HubSite) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
        site.hub.kill()
        site.hub.write(
            lambda database: database.execute(
                delete(ShellSession).where(ShellSession.id == session)
            )
        )
        assert site.agent.workers("shell")
        site.hub.start()
    site.agent.until(lambda: not site.agent.workers("shell"))


def test_an_operator_who_was_disabled_while_the_hub_was_away_has_no_shell_any_more(
    site: HubSite,
) -> None:
    token = site.hub.add_user("absent", Role.OPERATOR)
    with site.console(token) as console:
        session = console.shell(site.asset_id)
        site.hub.kill()

    def disable(database: object) -> None:
        user = database.scalar(select(User).where(User.name == "absent"))  # type: ignore[attr-defined]
        user.disabled_ms = 1

    site.hub.write(disable)
    site.hub.start()
    assert site.until_ended(session)["reason"] == "operator_lost"
    site.agent.until(lambda: not site.agent.workers("shell"))


def test_a_killed_agent_is_followed_by_one_that_goes_on_with_its_shells(site: HubSite) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
        console.type(session, counting(50))
        console.until(lambda: "line 1000\r" in console.output(session))
        site.agent.kill()
        console.until_event("shell_link", session=session, up=False)
        site.agent.start()
        text = console.until_output(session, "end\r\n")
        assert lines(50) in text
        console.call("shell_close", session=session)
        console.until_event("shell_closed", session=session)


def test_a_shell_that_its_agent_no_longer_has_ends_with_an_unknown_outcome() -> None:
    with hub_site() as site, site.console() as console:
        session = console.shell(site.asset_id)
        site.agent.kill()
        other = site.fresh_agent()
        try:
            console.until_event("shell_closed", session=session, reason="unknown_outcome")
        finally:
            other.close()
    assert console.of("shell_closed", session=session)[0]["code"] is None


def test_a_hub_that_stops_in_order_leaves_its_shells_running(site: HubSite) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
        site.hub.stop()
        come_back(site, console, [session])
        console.until_event("shell_link", session=session, up=True)
        console.type(session, "echo still here\n")
        console.until_output(session, "still here\r\n")
        console.call("shell_close", session=session)
