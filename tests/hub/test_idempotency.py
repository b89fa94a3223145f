"""A POST that is sent twice under one key is done once and answered twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import select, update

from hub.authorize import Role
from hub.errors import ConflictError
from hub.idempotency import service
from hub.idempotency.models import KeptAnswer
from hub.operators.models import Login, Tenant, User
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers, People

PATH = "/api/v1/tokens"
BODY = {"label": "ci"}


def post(api: HubClient, headers: dict[str, str], key: str, **how) -> httpx.Response:
    return api.post(PATH, headers=headers | {"Idempotency-Key": key}, **({"json": BODY} | how))


def made(api: HubClient) -> int:
    query = select(Login).where(Login.label == "ci")
    return len(api.hub.database.read_now(None, lambda session: session.scalars(query).all()))


def test_the_second_gets_the_firsts_answer_word_for_word(api: HubClient, as_role: Headers) -> None:
    first, second = (post(api, as_role("operator"), "k") for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert made(api) == 1


def test_twenty_at_once_do_it_once(api: HubClient, as_role: Headers) -> None:
    headers = as_role("operator") | {"Idempotency-Key": "k"}

    async def all_at_once() -> list[httpx.Response]:
        return await asyncio.gather(
            *(api.http.post(PATH, json=BODY, headers=headers) for _ in range(20))
        )

    replies = api.run(all_at_once())
    assert {reply.status_code for reply in replies} <= {201, 409}
    busy = [reply.json()["code"] for reply in replies if reply.status_code == 409]
    assert set(busy) <= {"idempotency_busy"}
    assert made(api) == 1


def test_two_bodies_at_once_are_never_a_fault(api: HubClient, as_role: Headers) -> None:
    headers = as_role("tenant_admin")
    good, bad = {"label": "ci"}, {"label": "x" * 1000}

    async def all_at_once(key: str) -> list[httpx.Response]:
        how = headers | {"Idempotency-Key": key}
        return await asyncio.gather(
            *(api.http.post(PATH, json=body, headers=how) for body in (good, bad) * 4)
        )

    for turn in range(10):
        replies = api.run(all_at_once(f"k{turn}"))
        assert {reply.status_code for reply in replies} <= {201, 409, 422, 400}
        told = {reply.json()["code"] for reply in replies if reply.status_code == 409}
        assert told <= {"idempotency_busy", "idempotency_mismatch"}
    assert made(api) <= 10


def test_key_that_is_let_go_while_another_asks_is_busy(
    api: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was there for the INSERT, and is gone for the SELECT."""
    monkeypatch.setattr(service, "_is_first", lambda *_: False)
    claim = service.Claim("digest", "body")
    with pytest.raises(ConflictError) as caught:
        api.hub.database.write_now(None, lambda session: service.make(session, claim))
    assert caught.value.code == "idempotency_busy"


def test_whoever_lost_the_role_meanwhile_gets_no_old_answer(
    api: HubClient, people: People, acme: Tenant
) -> None:
    user = people.user(acme, "ben", Role.OPERATOR)
    headers = people.headers(user)
    first = post(api, headers, "k")
    assert first.status_code == 201

    def become(role: Role) -> None:
        change = update(User).where(User.id == user.id).values(role=role)
        api.hub.database.write_now(None, lambda session: session.execute(change))

    become(Role.AUDITOR)
    refused = post(api, headers, "k")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert first.json()["token"] not in refused.text
    become(Role.OPERATOR)
    assert post(api, headers, "k").content == first.content
    assert made(api) == 1


def test_another_body_path_or_user_is_another_request(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    operator = as_role("operator")
    post(api, operator, "k")
    mismatch = post(api, operator, "k", json={"label": "cd"})
    assert mismatch.json()["code"] == "idempotency_mismatch"
    other = people.headers(people.user(acme, "ben", Role.OPERATOR))
    assert post(api, other, "k").status_code == 201
    assert post(api, operator, "k2").status_code == 201
    assert made(api) == 3


def test_a_refusal_is_not_kept(api: HubClient, as_role: Headers) -> None:
    admin = as_role("tenant_admin") | {"Idempotency-Key": "k"}
    body = {"name": "ben", "role": "auditor"}
    refused = api.post("/api/v1/users", json=body | {"role": "system_admin"}, headers=admin)
    assert refused.status_code == 403
    assert api.post("/api/v1/users", json=body, headers=admin).status_code == 201


def test_whoever_is_logged_out_meanwhile_gets_no_old_answer(
    api: HubClient, people: People, acme: Tenant
) -> None:
    headers = people.headers(people.user(acme, "ben", Role.OPERATOR))
    assert post(api, headers, "k").status_code == 201
    api.delete("/api/v1/sessions/current", headers=headers)
    assert post(api, headers, "k").status_code == 401


def test_a_claim_that_a_crash_left_behind_is_free_again(api: HubClient, as_role: Headers) -> None:
    operator = as_role("operator")
    post(api, operator, "k")

    def age(by_ms: int) -> None:
        change = update(KeptAnswer).values(status=None, claimed_ms=KeptAnswer.claimed_ms - by_ms)
        api.hub.database.write_now(None, lambda session: session.execute(change))

    age(0)
    assert post(api, operator, "k").json()["code"] == "idempotency_busy"
    age(service.BUSY_MS + 1)
    assert post(api, operator, "k").status_code == 201


def test_a_kept_answer_holds_no_plain_secret(api: HubClient, as_role: Headers) -> None:
    token = post(api, as_role("operator"), "k").json()["token"]
    row = api.hub.database.read_now(None, lambda session: session.scalars(select(KeptAnswer)).one())
    assert token not in str(vars(row))
    assert service.opened(row, api.hub.keyring).body.decode().count(token) == 1


def test_what_is_no_key_is_a_bad_request(api: HubClient, as_role: Headers) -> None:
    for key in ("", "x" * 129, "a\tb"):
        assert post(api, as_role("operator"), key).status_code == 400


def test_nobody_and_reads_are_not_kept(api: HubClient, as_role: Headers) -> None:
    assert post(api, {}, "k").status_code == 401
    api.get(PATH, headers=as_role("operator") | {"Idempotency-Key": "k"})
    kept = api.hub.database.read_now(
        None, lambda session: session.scalars(select(KeptAnswer)).all()
    )
    assert kept == []


def test_body_that_the_border_does_not_bound_is_not_gathered_for_a_key(
    api: HubClient, as_role: Headers
) -> None:
    """Whoever is logged in could fill the hub's memory by an agent's route."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1 << 20
            yield bytes(1 << 20)

    for path in ("/api/v1/artifacts?command_id=c&name=n", "/api/v1/agents/heartbeat"):
        headers = as_role("auditor") | {"Idempotency-Key": "k"}
        assert api.post(path, headers=headers, content=endless()).status_code in (400, 401, 413)
        assert sent <= 8 << 20
        sent = 0
