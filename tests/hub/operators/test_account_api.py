"""One's own password and authenticator app."""

from __future__ import annotations

import pyotp
import pytest

from hub.authorize import Role
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import PASSWORD, People


@pytest.fixture
def ann(api: HubClient, people: People, acme: Tenant) -> dict[str, str]:
    """A session of Ann, an auditor."""
    people.user(acme, "ann", Role.AUDITOR)
    return session_of(api)


def session_of(api: HubClient, **more: str) -> dict[str, str]:
    body = {"user": "ann", "password": PASSWORD} | more
    return {"Authorization": f"Bearer {api.post('/api/v1/sessions', json=body).json()['token']}"}


def test_a_changed_password_ends_every_other_session(api: HubClient, ann: dict[str, str]) -> None:
    other = session_of(api)
    change = {"password": PASSWORD, "new_password": "another good password"}
    assert api.post("/api/v1/me/password", json=change, headers=ann).status_code == 204
    assert api.get("/api/v1/me", headers=ann).status_code == 200
    assert api.get("/api/v1/me", headers=other).status_code == 401


def test_the_present_password_is_asked_for_and_guesses_are_counted(
    api: HubClient, ann: dict[str, str]
) -> None:
    change = {"password": "wrong", "new_password": "another good password"}
    codes = [api.post("/api/v1/me/password", json=change, headers=ann) for _ in range(7)]
    assert [reply.json()["code"] for reply in codes] == ["wrong_password"] * 6 + ["rate_limited"]


def test_an_authenticator_counts_once_a_code_of_it_was_shown(
    api: HubClient, ann: dict[str, str]
) -> None:
    begun = api.post("/api/v1/me/totp", json={"password": PASSWORD}, headers=ann).json()
    assert begun["uri"].startswith("otpauth://totp/")
    assert session_of(api)  # not yet needed
    wrong = api.post("/api/v1/me/totp/confirm", json={"code": "000"}, headers=ann)
    assert wrong.json()["code"] == "bad_code"
    code = pyotp.TOTP(begun["secret"]).now()
    confirmed = api.post("/api/v1/me/totp/confirm", json={"code": code}, headers=ann)
    assert confirmed.status_code == 204
    body = {"user": "ann", "password": PASSWORD}
    assert api.post("/api/v1/sessions", json=body).json()["code"] == "totp_required"
    used = api.post("/api/v1/sessions", json=body | {"totp": code})
    assert used.json()["code"] == "login_failed"
    removed = api.post("/api/v1/me/totp/remove", json={"password": PASSWORD}, headers=ann)
    assert removed.status_code == 204
    assert api.post("/api/v1/sessions", json=body).status_code == 201


def test_nothing_to_confirm_is_said(api: HubClient, ann: dict[str, str]) -> None:
    refused = api.post("/api/v1/me/totp/confirm", json={"code": "123456"}, headers=ann)
    assert refused.json()["code"] == "no_totp"
