"""Hostile and unlucky connects at a real hub: fault cases A, one by one."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from hub.agents.models import Agent, Asset, PresenceChange
from hub.audit.models import AuditRow
from hub.clock import now_ms
from hub.operators.models import Tenant
from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.raw_peer import RawPeer, fresh_address, query_of

OURS = {"agentVersion": "1", "bootId": "boot-1", "features": ["ack", "base64"], "jobs": []}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub() as found:
        yield found
        assert "Traceback" not in found.log(), found.log()


class Credential(NamedTuple):
    client_id: str
    token: str

    def query(self, shift_ms: int = 0) -> str:
        return query_of(self.client_id, self.token, shift_ms)


@pytest.fixture
def known(hub: HubProcess) -> Credential:
    """An agent that the hub knows, new for each test."""
    client_id = f"box-{next(_numbers)}"
    return Credential(client_id, hub.add_agent(client_id))


def knock(hub: HubProcess, query: str, address: str | None = None) -> dict[str, Any]:
    """Connect and join once; return the reply."""
    with RawPeer(hub.port, query, address) as peer:
        return peer.join()


def refusal(hub: HubProcess, query: str, address: str | None = None) -> str:
    reply = knock(hub, query, address)
    assert reply["data"]["serverTs"] == pytest.approx(now_ms(), abs=60_000)
    return str(reply["message"])


def linked(hub: HubProcess, who: Credential, auth: Any = None) -> RawPeer:
    """Return a peer that has its `hello_ack`."""
    peer = RawPeer(hub.port, who.query())
    reply = peer.join(auth=auth)
    assert "sid" in reply, reply
    peer.event("hello_ack")
    return peer


def audited(hub: HubProcess, outcome: str, address: str) -> list[dict[str, Any]]:
    """Return the details of the audit rows of one refusal from one address."""

    def read(session: Session) -> list[dict[str, Any]]:
        found = session.scalars(
            select(AuditRow).where(AuditRow.outcome == outcome, AuditRow.address == address)
        )
        return [row.detail for row in found]

    rows: list[dict[str, Any]] = hub.read(read)
    return rows


def presence(hub: HubProcess, client_id: str) -> str:
    def read(session: Session) -> str:
        return session.scalars(
            select(Asset.presence).join(Agent).where(Agent.client_id == client_id)
        ).one()

    return str(hub.read(read))


@pytest.mark.parametrize("shift_s", [-360, 360])
def test_a_clock_six_minutes_off_is_refused_and_the_audit_row_says_by_how_much(
    hub: HubProcess, known: Credential, shift_s: int
) -> None:
    address = fresh_address()
    assert refusal(hub, known.query(shift_s * 1000), address) == "auth_expired"
    [row] = audited(hub, "auth_expired", address)
    skew = int(str(row["hint"]).removeprefix("skew="))
    assert skew == pytest.approx(shift_s, abs=30)


def test_a_clock_within_the_window_is_let_in(hub: HubProcess, known: Credential) -> None:
    assert "sid" in knock(hub, known.query(-240_000))
    assert "sid" in knock(hub, known.query(240_000))


def test_a_time_in_seconds_is_malformed_and_only_the_audit_row_says_why(
    hub: HubProcess, known: Credential
) -> None:
    query = re.sub(r"ts=(\d{10})\d{3}", r"ts=\1", known.query())
    address = fresh_address()
    reply = knock(hub, query, address)
    assert reply["message"] == "auth_malformed"
    assert "ts_unit" not in json.dumps(reply)
    assert audited(hub, "auth_malformed", address) == [{"hint": "ts_unit"}]


SIG = "a" * 64
MALFORMED = {
    "ts NaN": f"clientId=x&ts=NaN&sig={SIG}",
    "ts exponent": f"clientId=x&ts=1e13&sig={SIG}",
    "ts space": f"clientId=x&ts=%2017&sig={SIG}",
    "ts underscore": f"clientId=x&ts=1_7000000000&sig={SIG}",
    "ts full width": f"clientId=x&ts=%EF%BC%91700000000000&sig={SIG}",
    "ts negative": f"clientId=x&ts=-1&sig={SIG}",
    "ts long": f"clientId=x&ts={'1' * 5000}&sig={SIG}",
    "ts missing": f"clientId=x&sig={SIG}",
    "ts twice": f"clientId=x&ts=1700000000000&ts=1700000000000&sig={SIG}",
    "sig letters": f"clientId=x&ts=1700000000000&sig={'%C3%A9' * 64}",
    "sig short": f"clientId=x&ts=1700000000000&sig={'a' * 63}",
    "sig long": f"clientId=x&ts=1700000000000&sig={'a' * 65}",
    "sig upper case": f"clientId=x&ts=1700000000000&sig={'A' * 64}",
    "sig empty": "clientId=x&ts=1700000000000&sig=",
    "id path": f"clientId=../../x&ts=1700000000000&sig={SIG}",
    "id quote": f"clientId=a%22b&ts=1700000000000&sig={SIG}",
    "id umlaut": f"clientId=%C3%BC&ts=1700000000000&sig={SIG}",
    "id NUL": f"clientId=a%00&ts=1700000000000&sig={SIG}",
    "id long": f"clientId={'a' * 129}&ts=1700000000000&sig={SIG}",
    "id empty": f"clientId=&ts=1700000000000&sig={SIG}",
    "id encoded dots": f"clientId=%2e%2e&ts=1700000000000&sig={SIG}",
    "id twice": f"clientId=x&clientId=y&ts=1700000000000&sig={SIG}",
    "nothing": "",
}


@pytest.mark.parametrize("query", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_has_not_the_shape_is_malformed_and_nothing_more(hub: HubProcess, query: str) -> None:
    assert refusal(hub, query) == "auth_malformed"


def test_a_signature_of_a_megabyte_never_becomes_a_socket(hub: HubProcess) -> None:
    with pytest.raises((InvalidHandshake, OSError, EOFError)):
        RawPeer(hub.port, f"clientId=x&ts=1700000000000&sig={'a' * 1_000_000}")
    assert hub.get("/healthz")[0] == 200


def test_a_wrong_signature_burns_nothing(hub: HubProcess, known: Credential) -> None:
    query = known.query()
    wrong = query[:-1] + ("0" if query[-1] != "0" else "1")
    address = fresh_address()
    assert refusal(hub, wrong, address) == "auth_failed"
    assert audited(hub, "auth_failed", address) == [{"client_id": known.client_id}]
    assert "sid" in knock(hub, query)


def test_an_unknown_client_is_told_what_a_wrong_signature_is_told(hub: HubProcess) -> None:
    assert refusal(hub, query_of("nobody", "guess")) == "auth_failed"


def test_a_replayed_query_is_refused_and_the_first_link_stays(
    hub: HubProcess, known: Credential
) -> None:
    query = known.query()
    with RawPeer(hub.port, query) as first:
        first.join()
        first.event("hello_ack")
        assert refusal(hub, query) == "auth_replayed"
        first.emit("ping", {"ts": 7})
        assert first.event("pong")["ts"] == 7


def test_a_replayed_query_is_refused_after_a_restart_too(known: Credential) -> None:
    with running_hub() as hub:
        token = hub.add_agent("box")
        query = query_of("box", token)
        assert "sid" in knock(hub, query)
        hub.kill()
        hub.start()
        assert refusal(hub, query) == "auth_replayed"


def test_of_fifty_parallel_connects_with_one_query_one_is_greeted(
    hub: HubProcess, known: Credential
) -> None:
    query, address = known.query(), fresh_address()
    peers = [RawPeer(hub.port, query, address) for _ in range(50)]
    try:
        with ThreadPoolExecutor(50) as pool:
            replies = list(pool.map(RawPeer.join, peers))
    finally:
        for peer in peers:
            peer.close()
    assert sum("sid" in reply for reply in replies) == 1
    assert [r["message"] for r in replies if "message" in r] == ["auth_replayed"] * 49


def test_failures_are_counted_by_address_and_never_hold_up_a_good_signature(
    hub: HubProcess, known: Credential
) -> None:
    address = fresh_address()
    wrong = known.query()[:-4] + "0000"
    answers = []
    for _ in range(40):
        with RawPeer(hub.port, wrong, address) as peer:
            answers.append(peer.join())
    told = [reply["message"] for reply in answers]
    assert told == ["auth_failed"] * 20 + ["rate_limited"] * 20
    assert 0 < answers[-1]["data"]["retryAfterMs"] <= 60_000
    assert len(audited(hub, "auth_failed", address)) == 20
    other = Credential("neighbour", hub.add_agent("neighbour"))
    assert "sid" in knock(hub, other.query(), address)
    assert "sid" in knock(hub, known.query(), address)


def test_a_foreign_agents_newer_link_replaces_the_older_at_once(
    hub: HubProcess, known: Credential
) -> None:
    with linked(hub, known) as older, linked(hub, known) as newer:
        assert older.closed() == "replaced"
        newer.emit("ping", {"ts": 1})
        newer.event("pong")


def test_the_same_boots_newer_link_replaces_the_older_at_once(
    hub: HubProcess, known: Credential
) -> None:
    with linked(hub, known, OURS) as older, linked(hub, known, OURS) as newer:
        assert older.closed() == "replaced"
        newer.emit("ping", {"ts": 1})
        newer.event("pong")


class Answering:
    """A link that answers the hub's pings, in a thread."""

    def __init__(self, peer: RawPeer) -> None:
        self.peer = peer
        self._pool = ThreadPoolExecutor(1)
        self.reason = self._pool.submit(self._answer)

    def _answer(self) -> str:
        while True:
            try:
                ping = self.peer.event("ping", 60)
            except ConnectionClosed as closed:
                return closed.rcvd.reason if closed.rcvd is not None else ""
            self.peer.emit("pong", ping)


def test_a_reboot_is_no_conflict(hub: HubProcess, known: Credential) -> None:
    for boot in ("one", "two", "three"):
        with linked(hub, known, {**OURS, "bootId": boot}):
            pass
    hub.until(lambda: presence(hub, known.client_id) == "offline")


def test_two_machines_with_one_identity_are_both_refused_and_nothing_is_sent(
    hub: HubProcess, known: Credential
) -> None:
    one, two = ({**OURS, "bootId": name} for name in ("one", "two"))
    linked(hub, known, one)
    second = Answering(linked(hub, known, two))
    with RawPeer(hub.port, known.query()) as back:
        reply = back.join(auth=one)
    assert reply["message"] == "identity_conflict"
    assert reply["data"]["retryAfterMs"] > 0
    assert second.reason.result(30) == "identity_conflict"
    hub.until(lambda: presence(hub, known.client_id) == "conflict")
    with RawPeer(hub.port, known.query()) as again:
        assert again.join(auth=two)["message"] == "identity_conflict"
    token = hub.token()
    listed = hub.get(f"/api/v1/agents?q={known.client_id}", token)[1]["items"]
    [asset_id] = [one["asset_id"] for one in listed if one["client_id"] == known.client_id]
    assert hub.request("POST", f"/api/v1/agents/{asset_id}/resolve", token)[0] == 200
    with linked(hub, known, two):
        hub.until(lambda: presence(hub, known.client_id) == "online")


@pytest.mark.parametrize("by", ["api", "another process"])
def test_a_revoked_agents_link_is_cut_and_it_is_told_when_it_comes_again(
    hub: HubProcess, known: Credential, by: str
) -> None:
    with linked(hub, known) as peer:
        if by == "api":
            token = hub.token()
            found = hub.get(f"/api/v1/agents?q={known.client_id}", token)[1]["items"]
            [asset_id] = [one["asset_id"] for one in found if one["client_id"] == known.client_id]
            status, _ = hub.request("POST", f"/api/v1/agents/{asset_id}/revoke", token)
            assert status in (200, 204)
        else:
            hub.write(
                lambda session: session.execute(
                    update(Agent)
                    .where(Agent.client_id == known.client_id)
                    .values(state="revoked", revoked_ms=now_ms())
                )
            )
        assert peer.closed() == "revoked"
    assert refusal(hub, known.query()) == "auth_revoked"


def test_a_tenant_that_is_switched_off_loses_its_links(hub: HubProcess) -> None:
    who = Credential("of-gone", hub.add_agent("of-gone", tenant="gone"))
    with linked(hub, who) as peer:
        hub.write(
            lambda session: session.execute(
                update(Tenant).where(Tenant.name == "gone").values(disabled_ms=now_ms())
            )
        )
        assert peer.closed() == "tenant_disabled"
    assert refusal(hub, who.query()) == "tenant_disabled"


def test_an_agent_that_nobody_approved_waits(hub: HubProcess, known: Credential) -> None:
    hub.write(
        lambda session: session.execute(
            update(Agent).where(Agent.client_id == known.client_id).values(state="pending")
        )
    )
    assert refusal(hub, known.query()) == "auth_pending"


@pytest.mark.parametrize("name", ["connect", "disconnect"])
def test_an_event_named_like_the_librarys_own_closes_the_link_and_changes_nothing(
    hub: HubProcess, known: Credential, name: str
) -> None:
    with linked(hub, known) as peer:
        peer.emit(name, {"QUERY_STRING": "clientId=somebody-else"})
        assert peer.closed() == "protocol_violation"
        assert audited(hub, "protocol_violation", peer.address) == [{"event": name}]

    def states(session: Session) -> list[str]:
        found = session.scalars(
            select(PresenceChange.state)
            .join(Agent, Agent.asset_id == PresenceChange.asset_id)
            .where(Agent.client_id == known.client_id)
            .order_by(PresenceChange.seq)
        )
        return list(found)

    hub.until(lambda: hub.read(states) == ["online", "offline"])


@pytest.mark.parametrize("namespace", ["/", "/admin2"])
def test_another_namespace_is_refused_and_the_socket_does_not_stay(
    hub: HubProcess, known: Credential, namespace: str
) -> None:
    began_s = time.monotonic()
    with RawPeer(hub.port, known.query()) as peer:
        peer.send("40" if namespace == "/" else f"40{namespace},")
        assert "Unable to connect" in peer.receive()
        peer.closed()
        assert time.monotonic() - began_s < 50


def test_no_signature_stands_in_the_log(hub: HubProcess, known: Credential) -> None:
    query = known.query()
    with RawPeer(hub.port, query) as peer:
        peer.join()
    sig = query.rpartition("sig=")[2]
    assert sig not in hub.log()
