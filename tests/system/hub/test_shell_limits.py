"""Shells end by themselves, recordings at their size; who does not read is dropped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hub.shell import cast
from tests.doubles.console_socket import ConsoleSocket
from tests.doubles.hub_site import HubSite, hub_site

KIB = 1024


@pytest.fixture(scope="module")
def site() -> Iterator[HubSite]:
    limits = {
        "JACKLINE_HUB_SHELL_IDLE_S": "4",
        "JACKLINE_HUB_SHELL_DETACHED_S": "2",
        "JACKLINE_HUB_RECORDING_MAX_BYTES": str(64 * KIB),
    }
    with hub_site(env=limits) as made:
        yield made


def test_a_shell_in_which_nobody_types_ends(site: HubSite) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
        console.type(session, "while :; do echo busy; sleep 0.1; done\n")
        console.until_event("shell_closed", session=session, reason="idle_timeout")
        reply = console.call("shell_input", session=session, data="x")
        assert reply["error"]["code"] in ("session_ended", "not_attached")
    assert site.until_ended(session)["reason"] == "idle_timeout"


def test_a_shell_at_which_nobody_looks_ends(site: HubSite) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
    assert site.until_ended(session)["reason"] == "detached_timeout"


def test_a_shell_lasts_no_longer_than_it_may() -> None:
    with hub_site(env={"JACKLINE_HUB_SHELL_MAX_S": "2"}) as site, site.console() as console:
        session = console.shell(site.asset_id)
        console.until_event("shell_closed", session=session, reason="max_duration")


def test_a_recording_ends_at_its_size_and_the_shell_goes_on(site: HubSite) -> None:
    with site.console() as console:
        session = console.shell(site.asset_id)
        console.type(session, "seq 1 40000; echo be''hind\n")
        console.until_output(session, "behind\r\n")
        console.type(session, "exit 0\n")
        console.until_event("shell_closed", session=session)
    row = site.until_ended(session)
    assert row["recording_truncated"] is True
    assert row["recording_bytes"] <= 64 * KIB
    _, text = site.hub.get(f"/api/v1/shells/{session}/recording", site.token)
    _, events = cast.read(text.encode().splitlines(keepends=True))
    shown = cast.outputs(listed := list(events))
    assert console.output(session).startswith(shown)
    assert listed[-1].code == "m"


class Deaf(ConsoleSocket):
    """A console that reads no more once it has been told to."""

    def __init__(self, url: str, token: str) -> None:
        self.hears = threading.Event()
        self.hears.set()
        super().__init__(url, token)

    def _on_event(self, event: str, payload: Any = None) -> None:
        self.hears.wait(60)
        super()._on_event(event, payload)


def test_a_console_that_does_not_read_is_dropped_and_nobody_else_notices() -> None:
    with hub_site() as site, site.console() as console:
        deaf = Deaf(site.hub.url, site.token)
        session = console.shell(site.asset_id)
        deaf.attach(session, "shell_observe")
        deaf.hears.clear()
        try:
            console.type(session, "seq 1 2000000; echo en''d\n")
            console.until_output(session, "end\r\n")
            _, row = site.hub.get(f"/api/v1/shells/{session}", site.token)
            assert row["observers"] == 0
            assert row["has_writer"] is True
        finally:
            deaf.hears.set()
        deaf.until(lambda: not deaf.is_up)
        assert deaf.of("dropped") in ([], [{"reason": "slow_consumer"}])
        deaf.close()
        console.call("shell_close", session=session)
