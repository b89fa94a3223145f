"""The operators' client: a log-in kept on the disk, errors as exit codes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import requests

from hub.cli import client, exits, login_file
from hub.cli.client import Client, reporting
from hub.cli.login_file import Saved
from hub.errors import CliError

HUB = "https://hub.example"


def reply(status: int, body: object = None) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = b"" if body is None else json.dumps(body).encode()
    return made


@pytest.fixture
def hub_says(monkeypatch: pytest.MonkeyPatch):
    """Let the next replies be these; returns what was asked."""
    asked: list[tuple] = []

    def say(*replies: requests.Response) -> list[tuple]:
        waiting = list(replies)

        def request(_self: object, method: str, url: str, **how: object) -> requests.Response:
            asked.append((method, url, how))
            return waiting.pop(0)

        monkeypatch.setattr(requests.Session, "request", request)
        return asked

    return say


def test_a_log_in_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    environ = {"JACKLINE_CONFIG_DIR": str(tmp_path / "config")}
    kept = login_file.save(Saved(hub=HUB, token="t", user="ann"), environ)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert login_file.load(environ).token == "t"
    login_file.save(Saved(hub=HUB, token="t2"), environ)
    assert login_file.load(environ).token == "t2"
    kept.chmod(0o644)
    with pytest.raises(CliError, match="0600"):
        login_file.load(environ)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {"JACKLINE_CONFIG_DIR": str(tmp_path)}
    login_file.save(Saved(hub=HUB, token="file"), environ)
    given = environ | {"JACKLINE_HUB_URL": "http://localhost:1", "JACKLINE_TOKEN": "env"}
    assert login_file.load(given).token == "env"


def test_nobody_logged_in_is_said_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="jackline login") as caught:
        login_file.load({"JACKLINE_CONFIG_DIR": str(tmp_path)})
    assert caught.value.exit_code == exits.NOT_PERMITTED


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "bad_request", exits.USAGE),
        (401, "unauthorized", exits.NOT_PERMITTED),
        (403, "forbidden", exits.NOT_PERMITTED),
        (403, "policy_denied", exits.REFUSED),
        (404, "not_found", exits.NOT_FOUND),
        (409, "conflict", exits.REFUSED),
        (429, "rate_limited", exits.TRY_LATER),
        (503, "agent_offline", exits.UNAVAILABLE),
        (500, "internal", exits.FAILED),
    ],
)
def test_what_the_hub_refuses_becomes_an_exit_code(
    hub_says, status: int, code: str, exit_code: int
) -> None:
    hub_says(reply(status, {"code": code, "detail": "because"}))
    with pytest.raises(CliError, match=rf"because \({code}\)") as caught:
        Client(Saved(hub=HUB, token="t")).get("/api/v1/me")
    assert caught.value.exit_code == exit_code


def test_lists_are_walked_page_by_page(hub_says) -> None:
    asked = hub_says(
        reply(200, {"items": [{"n": 1}], "next": "c"}), reply(200, {"items": [{"n": 2}]})
    )
    found = list(Client(Saved(hub=HUB, token="t")).items("/api/v1/users", role=None))
    assert found == [{"n": 1}, {"n": 2}]
    assert [how["params"] for _, _, how in asked] == [{}, {"cursor": "c"}]
    assert not any(how["allow_redirects"] for _, _, how in asked)


@pytest.mark.parametrize("url", ["hub.example", "ftp://hub", "https://", "http://hub.example"])
def test_a_url_that_is_none_or_would_show_the_password_is_refused(url: str) -> None:
    with pytest.raises(CliError) as caught:
        Client(Saved(hub=url))
    assert caught.value.exit_code == exits.USAGE


def test_a_page_that_is_no_hub_is_said_to_be_none(hub_says) -> None:
    page = reply(200)
    page._content = b"<html>"
    hub_says(page)
    with pytest.raises(CliError, match="does not answer as a hub"):
        Client(Saved(hub=HUB)).get("/healthz")


def test_a_command_ends_with_one_line_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    @reporting
    def run(argv: list[str]) -> int:
        raise CliError("no \x1b[2J such agent", exits.NOT_FOUND)

    assert run([]) == exits.NOT_FOUND
    assert capsys.readouterr().err == "jackline: no \ufffd[2J such agent\n"


def test_segments_of_a_path_cannot_leave_it() -> None:
    assert client.segment("../users?x") == "..%2Fusers%3Fx"
