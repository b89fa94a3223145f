"""What leaves for an agent: nothing that it has not asked for, nothing too large, in order."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hub.agents.batches import Batches
from hub.agents.links import Link, Links
from hub.errors import AgentOfflineError, BadRequestError, UnsupportedError
from wire import features
from wire.features import agreed
from wire.limits import FOREIGN_AGENT_EVENT_BYTES
from wire.shell import ShellCredit, ShellInput, ShellStart
from wire.workers import WorkerList


class Peer:
    """Keeps what it is to send."""

    address = "::1"

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.largest = 0

    def emit(self, name: str, payload: bytes) -> None:
        self.largest = max(self.largest, len(payload) + len(name))
        self.sent.append((name, json.loads(payload)))


def link(theirs: tuple[str, ...] | None, peer: Peer, asset_id: str = "m1") -> Link:
    return Link(
        agent_id=f"of-{asset_id}", asset_id=asset_id, tenant_id="t", client_id="c",
        features=agreed(features.FEATURES, theirs), boot_id=None, version=None, jobs=(),
        connected_ms=0, peer=peer,  # type: ignore[arg-type]
    )  # fmt: skip


def linked(theirs: tuple[str, ...] | None) -> tuple[Links, Peer]:
    links, peer = Links(), Peer()
    links.add(link(theirs, peer))
    return links, peer


def send(links: Links, message: Any, asset_id: str = "m1") -> None:
    asyncio.run(links.send(asset_id, message))


def test_a_foreign_agent_gets_the_plain_contract_alone() -> None:
    links, peer = linked(None)
    send(links, ShellStart(session="s", cols=80, operator="ann"))
    assert peer.sent == [
        ("shell_start", {"type": "shell_start", "t": "shell_start", "session": "s"})
    ]
    for message in (ShellCredit(session="s", bytes=1), WorkerList(request_id="r")):
        with pytest.raises(UnsupportedError):
            send(links, message)


def test_keystrokes_for_a_foreign_agent_are_cut_into_pieces_that_it_survives() -> None:
    links, peer = linked(None)
    data = "é\x00\U0001f600" * 30_000 + "\x00" * 9000
    send(links, ShellInput(session="s", data=data))
    assert "".join(payload["data"] for _, payload in peer.sent) == data
    assert peer.largest < FOREIGN_AGENT_EVENT_BYTES
    send(links, ShellInput(session="s", data=""))
    assert peer.sent[-1][1]["data"] == ""


def test_what_fits_no_event_is_refused_before_anything_leaves() -> None:
    links, peer = linked(features.FEATURES)
    with pytest.raises(BadRequestError) as refused:
        send(links, ShellInput(session="s", data="x" * 300_000))
    assert refused.value.code == "too_large"
    assert peer.sent == []


def test_nobody_is_sent_to_where_nobody_is_linked() -> None:
    links, _ = linked(None)
    with pytest.raises(AgentOfflineError):
        send(links, ShellInput(session="s", data="x"), "m2")


def test_an_older_links_end_does_not_take_the_newer_one_away() -> None:
    links, newer_peer = Links(), Peer()
    older, newer = link(None, Peer()), link(None, newer_peer)
    links.add(older)
    links.add(newer)
    assert not links.remove(older)
    assert links.of("m1") is links.of_agent("of-m1") is newer
    assert links.remove(newer)
    assert links.of("m1") is None
    with pytest.raises(AgentOfflineError):
        links.send_nowait(newer, ShellInput(session="s", data="x"))


def test_questions_that_gather_are_asked_together_and_a_failure_is_their_batchs() -> None:
    asked: list[list[int]] = []

    async def run(questions: list[int]) -> list[int]:
        asked.append(questions)
        await asyncio.sleep(0)
        if 13 in questions:
            raise ValueError(13)
        return [question * 2 for question in questions]

    async def main() -> list[Any]:
        batches = Batches[int, int](run)
        first = await asyncio.gather(*map(batches.ask, range(5)))
        return [*first, *await asyncio.gather(*map(batches.ask, (13, 14)), return_exceptions=True)]

    found = asyncio.run(main())
    assert found[:5] == [0, 2, 4, 6, 8]
    assert all(isinstance(one, ValueError) for one in found[5:])
    assert asked == [[0, 1, 2, 3, 4], [13, 14]]
